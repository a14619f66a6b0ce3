"""Progress of long work, as one small hook for scripts, notebooks and windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["ProgressHook", "reporter"]

ProgressHook = Callable[[int, int, str], None]
"""Called with ``(done, total, label)``, from the thread that called `run`."""


def _silent(done: int, total: int, label: str) -> None:
    """Report nothing."""


class _Bar:
    """A tqdm bar behind the hook's signature; made on the first report."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, done: int, total: int, label: str) -> None:
        if self._bar is None:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=total, desc=label, unit="tile", leave=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


@contextmanager
def reporter(progress: bool | ProgressHook | None) -> Iterator[ProgressHook]:
    """The hook to call for an option value: none, a bar, or the caller's own."""
    if progress is None or progress is False:
        yield _silent
    elif progress is True:
        bar = _Bar()
        try:
            yield bar
        finally:
            bar.close()
    else:
        yield progress
