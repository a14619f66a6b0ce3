"""Mean patterns of classes, all in one pass over the scan."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PlainSerializer, PlainValidator

from py4DSTEM.core.cube import Cube
from py4DSTEM.core.history import History
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.process.classes.result import Classes, hard_weights
from py4DSTEM.process.diffraction import mean_of
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.operation import Operation, Output, Parts, Reduced
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = ["ClassPatterns", "class_patterns"]

Float = NDArray[np.float64]


def _known_classes(value: Any) -> Classes:
    """Classes, a map of labels, or what the history keeps of them."""
    if isinstance(value, Classes):
        return value
    names: tuple[str, ...] = ()
    if isinstance(value, Mapping):
        value, names = _unpacked(value), tuple(value["names"])
    labels = np.asarray(value)
    if labels.ndim != 2 or labels.dtype.kind not in "ui":
        raise ParameterError(
            f"classes are whole numbers (Rx, Ry), not {labels.dtype} of {labels.shape}"
        )
    count = max(int(labels.max(initial=0)) + 1, len(names))
    return Classes(labels.astype(np.int32), hard_weights(labels, count), names)


def _class_facts(classes: Classes) -> dict[str, Any]:
    """Labels and names: a scan has many positions, so they are packed."""
    raw = zlib.compress(np.ascontiguousarray(classes.labels, "<i4").tobytes())
    packed = base64.b64encode(raw).decode("ascii")
    return {"shape": list(classes.R_shape), "zlib_i4": packed, "names": list(classes.names)}


def _unpacked(facts: Mapping[str, Any]) -> NDArray[np.int32]:
    try:
        nx, ny = (int(n) for n in facts["shape"])
        unpack = zlib.decompressobj()
        raw = unpack.decompress(base64.b64decode(facts["zlib_i4"], validate=True), 4 * nx * ny + 1)
        return np.frombuffer(raw, "<i4").reshape(nx, ny).astype(np.int32)
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise ParameterError(f"this is no packed map of classes: {error}") from None


ClassesParameter = Annotated[Any, PlainValidator(_known_classes), PlainSerializer(_class_facts)]


def _add(whole: tuple[Float, Float], part: tuple[Float, Float]) -> tuple[Float, Float]:
    for total, more in zip(whole, part, strict=True):
        total += more
    return whole


class ClassPatterns(Operation, kind="class-patterns", version=1):
    """Mean pattern of every class of positions, all in one pass over the scan.

    Pixels that are NaN or infinite are left out; a class without positions is NaN.
    """

    classes: ClassesParameter = Field(
        description="Classes of this scan, or a map (Rx, Ry) of their numbers, −1 for none.",
        json_schema_extra={"accepts": ["Classes"]},
    )

    outputs: ClassVar[Mapping[str, Output]] = {"sums": Reduced(_add)}

    @classmethod
    def examples(cls) -> list[ClassPatterns]:
        """Instances for the conformance tests."""
        labels = np.add.outer(np.arange(5), np.arange(4)) % 3 - 1
        return [cls(classes=labels)]

    def prepare(self, cube: Cube, kernels: Kernels) -> Classes:
        classes: Classes = self.classes
        if classes.R_shape != cube.R_shape:
            raise ShapeError(f"classes of {classes.R_shape} positions, a scan of {cube.R_shape}")
        return classes

    def step(self, classes: Classes, tile: Tile, kernels: Kernels) -> Parts:
        labels = tile.local(classes.labels)
        shape = (classes.n, *tile.frames.shape[1:])
        sums, counts = np.zeros(shape), np.zeros(shape)
        weights = np.ones(len(labels)) if tile.weights is None else tile.weights
        for k in np.unique(labels[labels >= 0]):
            own = np.where(labels == k, weights, 0.0)
            if own.any():
                measured = kernels.measure(tile.frames, sums=True, weights=own)
                sums[k], counts[k] = measured.get("sums", "valid")
        return {"sums": (sums, counts)}

    def finish(self, cube: Cube, classes: Classes, parts: Parts, history: History) -> Classes:
        return replace(
            classes,
            patterns=mean_of(*parts["sums"]),
            calibration=cube.calibration,
            history=_both(classes, history),
        )


def _both(classes: Classes, history: History) -> History:
    """How the classes were made, then this step."""
    if not classes.history.steps:
        return history
    return replace(history, steps=(*classes.history.steps, history.steps[-1]))


def class_patterns(
    cube: Cube, classes: Classes | NDArray[Any], *, options: RunOptions | None = None
) -> Classes:
    """Add the mean pattern of every class, all in one pass over the scan.

    Parameters
    ----------
    cube : DataCube
    classes : Classes or (Rx, Ry) int array
        Of this scan.
    options : RunOptions, optional

    Returns
    -------
    Classes
        The same with ``.patterns`` (n, Qx, Qy) float64; ``classes["name"]`` is one of them.

    Raises
    ------
    ShapeError
        The classes are of another scan.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import DataCube
    >>> cube = DataCube(np.arange(24, dtype=np.uint16).reshape(2, 2, 3, 2))
    >>> found = class_patterns(cube, np.array([[0, 1], [0, -1]]))
    >>> found.patterns[:, 0, 0].tolist(), found["class 1"].shape
    ([6.0, 6.0], (3, 2))
    """
    result: Classes = run(ClassPatterns(classes=classes), cube, options=options)
    return result
