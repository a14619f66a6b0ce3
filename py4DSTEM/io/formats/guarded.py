"""Arrays of other libraries, whose failures are told in our words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from py4DSTEM.errors import CorruptFile, Py4DSTEMError

__all__ = ["Guarded"]


class Guarded:
    """A lazy array (zarr, dask) of a file, read in the thread that asks.

    Parameters
    ----------
    path : Path
        The file.
    format : str
        For messages.
    array : array-like
        With ``shape``, ``dtype``, ``chunks`` and ``[]``; a dask array is computed by the caller's
        thread, as dask's own threads inside ours would oversubscribe the machine.
    """

    def __init__(self, path: Path, format: str, array: Any) -> None:
        self.path, self.format, self._array = path, format, array
        self.shape: tuple[int, ...] = tuple(map(int, array.shape))
        self.dtype: np.dtype[Any] = np.dtype(array.dtype)
        self.chunks: tuple[int, ...] = tuple(
            int(max(c)) if isinstance(c, tuple) else int(c) for c in array.chunks
        )

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path.name} {self.shape} {self.dtype}>"

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        try:
            part = self._array[key]
            if hasattr(part, "compute"):
                part = part.compute(scheduler="synchronous")
            return np.asarray(part)
        except (IndexError, MemoryError, Py4DSTEMError):
            raise
        except Exception as error:
            raise CorruptFile(
                f"a part of it cannot be read ({type(error).__name__}: {error})",
                path=self.path,
                format=self.format,
                hint="The file is damaged or was not copied completely",
            ) from error

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype=dtype)
