"""Features: what is measured at every scan position, as one table for classification."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import DiffractionSlice, RealSlice
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.io.store.schema import register_result

__all__ = [
    "FeatureBlock",
    "Features",
    "Scale",
    "Transform",
    "combined",
    "known_features",
    "table_of",
]

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Kind = Literal["patterns", "profile", "images", "map", "vectors"]
Transform = Literal["none", "sqrt", "anscombe", "log"]
Scale = Literal["none", "block", "standard", "robust"]
_SHOWN = 6


@dataclass(frozen=True)
class FeatureBlock:
    """Columns of a table of features that belong together.

    Parameters
    ----------
    kind : str
        ``"patterns"``: a binned pattern; ``"profile"``: intensity of rings; ``"images"``: virtual
        images; ``"vectors"``: intensity of peaks on a grid; ``"map"``: anything else.
    name : str
        Unique among the blocks of a table.
    shape : tuple of int
        Of one vector of the block: ``(nx, ny)`` of a binned pattern, ``(n,)`` of others.
    labels : tuple of str
        Names of the columns; () for numbered ones.
    transform : "none", "sqrt", "anscombe" or "log"
        What is done to the values before they are compared: ``√v``, ``2√(v + 3/8)`` (the noise of
        counts becomes 1 everywhere, doi:10.1093/biomet/35.3-4.246) or ``ln(1 + v)``, of v ≥ 0.
    scale : "none", "block", "standard" or "robust"
        Then: nothing; all columns divided by one number, so that their variances add up to 1; each
        column less its mean over its standard deviation; less its median over 1.4826 times its
        median absolute deviation.
    bin : int
        Of patterns: detector pixels along each side of a feature.
    start : (int, int)
        Of patterns: first detector pixel.
    step : float
        Of a profile: distance of the rings in `unit`.
    unit : str
    """

    kind: Kind
    name: str
    shape: tuple[int, ...]
    labels: tuple[str, ...] = ()
    transform: Transform = "none"
    scale: Scale = "standard"
    bin: int = 1
    start: tuple[int, int] = (0, 0)
    step: float = 1.0
    unit: str = ""

    def __post_init__(self) -> None:
        for value, allowed in ((self.transform, Transform), (self.scale, Scale)):
            if value not in get_args(allowed):
                raise ParameterError(f"features have no {value!r}, only {get_args(allowed)}")
        if self.labels and len(self.labels) != self.size:
            raise ShapeError(f"{len(self.labels)} labels for {self.size} features {self.name!r}")

    @property
    def size(self) -> int:
        """Number of columns."""
        return math.prod(self.shape)

    @property
    def names(self) -> tuple[str, ...]:
        """One per column."""
        if self.labels:
            return self.labels
        if not self.shape or self.size == 1:
            return (self.name,)
        return tuple(
            f"{self.name}[{','.join(map(str, index))}]" for index in np.ndindex(*self.shape)
        )


@dataclass(frozen=True, eq=False)
class Features:
    """What was measured at every scan position, one row per position.

    The values are as measured; how they are to be scaled is said by each block and done where they
    are used.

    Parameters
    ----------
    data : (Rx * Ry, n_features) float32
        In the order of the scan, row after row; NaN where unknown.  May be a memory map.
    R_shape : (int, int)
        Scan shape.
    blocks : tuple of FeatureBlock
        What the columns are.
    calibration : Calibration
        Of the scan.
    history : History
        How they were made.
    name : str
    """

    data: Float32
    R_shape: tuple[int, int]
    blocks: tuple[FeatureBlock, ...]
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "features"

    def __post_init__(self) -> None:
        columns = sum(block.size for block in self.blocks)
        if self.data.shape != (math.prod(self.R_shape), columns) or not columns:
            raise ShapeError(
                f"features of {self.R_shape[0]} x {self.R_shape[1]} positions and {columns} "
                f"columns cannot have the shape {self.data.shape}"
            )
        names = [block.name for block in self.blocks]
        if len(set(names)) != len(names):
            raise ParameterError(f"blocks of features need different names, not {names}")

    # ---- columns ---------------------------------------------------------------------------------
    @property
    def n(self) -> int:
        """Number of features."""
        return int(self.data.shape[1])

    @property
    def names(self) -> tuple[str, ...]:
        """One per feature."""
        return tuple(name for block in self.blocks for name in block.names)

    def columns(self, block: FeatureBlock) -> slice:
        """Where the features of a block are."""
        start = sum(b.size for b in self.blocks[: self.blocks.index(block)])
        return slice(start, start + block.size)

    def block(self, name: str) -> FeatureBlock:
        """The block of a name."""
        for block in self.blocks:
            if block.name == name:
                return block
        raise ParameterError(f"there is no block {name!r}, only {[b.name for b in self.blocks]}")

    @property
    def known(self) -> Bool:
        """Features that are known at some position, (n_features,)."""
        return known_features(self.data)[1]

    @property
    def valid(self) -> Bool:
        """Positions where every feature is known that is known anywhere, (Rx, Ry)."""
        counts, known = known_features(self.data)
        return np.asarray(counts == known.sum()).reshape(self.R_shape)

    def __getitem__(self, name: str) -> RealSlice:
        """One feature as an image, or a block of them as a stack."""
        for block in self.blocks:
            columns = self.columns(block)
            if name == block.name and block.size > 1:
                return self._image(columns, name, block.names)
            if name in block.names:
                k = columns.start + block.names.index(name)
                return self._image(slice(k, k + 1), name, ())
        raise ParameterError(f"there is no feature {name!r}; blocks: {self.blocks}")

    def _image(self, columns: slice, name: str, labels: tuple[str, ...]) -> RealSlice:
        stack = np.asarray(self.data[:, columns], np.float64).T.reshape(-1, *self.R_shape)
        data = stack if labels else stack[0]
        return RealSlice(data, self.calibration, self.history, name, labels)

    # ---- back to what they were measured from ----------------------------------------------------
    def vector(self, values: Any, block: str | None = None) -> NDArray[np.float64]:
        """Part of a row of features in the shape that it was measured in.

        Parameters
        ----------
        values : (n_features,) array
        block : str, optional
            Which part; None: the first block.

        Returns
        -------
        array
            ``(nx, ny)`` for binned patterns, ``(n,)`` for others.
        """
        chosen = self.blocks[0] if block is None else self.block(block)
        row = np.asarray(values, np.float64)
        if row.shape != (self.n,):
            raise ShapeError(f"a row of {self.n} features, not an array of {row.shape}")
        return row[self.columns(chosen)].reshape(chosen.shape)

    def pattern(self, values: Any, block: str | None = None) -> DiffractionSlice:
        """The binned pattern of a row of features, with the calibration of the binned detector."""
        chosen = self.blocks[0] if block is None else self.block(block)
        if chosen.kind != "patterns":
            raise ParameterError(f"{chosen.name!r} is no binned pattern but {chosen.kind}")
        binned = _binned(self.calibration, chosen.start, chosen.bin)
        return DiffractionSlice(self.vector(values, chosen.name), binned, self.history, chosen.name)

    # ---- other ways to scale ---------------------------------------------------------------------
    def scaled_by(
        self, *, transform: Transform | None = None, scale: Scale | None = None
    ) -> Features:
        """The same features, to be compared after another transform or scaling."""
        given = {"transform": transform, "scale": scale}
        change: dict[str, Any] = {name: word for name, word in given.items() if word is not None}
        return replace(self, blocks=tuple(replace(block, **change) for block in self.blocks))

    def text(self) -> str:
        """What they are, a line per block."""
        left = self.data.shape[0] - int(self.valid.sum())
        lines = [
            f"{self.name}: {self.n} features of {self.R_shape[0]} x {self.R_shape[1]} positions"
        ]
        for b in self.blocks:
            shown = ", ".join(b.names[:_SHOWN]) + (" …" if b.size > _SHOWN else "")
            lines.append(f"{b.name} ({b.kind}, {b.transform}, {b.scale}): {shown}")
        lines += [f"unknown at {left} positions"] if left else []
        return "\n".join(lines)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.data, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        parts = ", ".join(f"{b.name} {b.shape}" for b in self.blocks)
        return f"<Features {self.name!r} {self.R_shape}: {parts}>"


def _binned(calibration: Calibration, start: tuple[int, int], factor: int) -> Calibration:
    """Of a detector whose pixels are `factor` as wide, counted from `start`."""
    origin = calibration.origin_px
    if origin is not None:
        origin = (np.asarray(calibration.mean_origin_px) - start - (factor - 1) / 2) / factor
    x, y = (axis.crop(a).bin(factor) for axis, a in zip(calibration.Q, start, strict=True))
    radius = calibration.probe_radius_px
    return replace(
        calibration,
        Q=(x, y),
        origin_px=origin,
        ellipse=calibration.ellipse and calibration.ellipse.scaled(1 / factor),
        probe_radius_px=radius and radius / factor,
    )


def known_features(data: Float32, rows: int = 1024) -> tuple[NDArray[np.int64], Bool]:
    """How many features each position has, and which are known at all; in parts for memory maps."""
    counts = np.empty(len(data), np.int64)
    known = np.zeros(data.shape[1], bool)
    for start in range(0, len(data), rows):
        finite = np.isfinite(data[start : start + rows])
        counts[start : start + rows] = finite.sum(axis=1)
        known |= finite.any(axis=0)
    return counts, known


# ---- more than one source ------------------------------------------------------------------------
def combined(parts: Sequence[Features], name: str = "features") -> Features:
    """All columns of several tables of the same scan side by side.

    Blocks of the same name get a number; the history is that of the first.
    """
    shapes = {part.R_shape for part in parts}
    if len(shapes) != 1:
        raise ShapeError(f"features of scans of different shapes: {sorted(shapes)}")
    if len(parts) == 1:
        return parts[0]
    blocks: list[FeatureBlock] = []
    for block in (block for part in parts for block in part.blocks):
        taken = {b.name for b in blocks}
        blocks.append(replace(block, name=_free(block.name, taken)))
    data = np.concatenate([part.data for part in parts], axis=1)
    return replace(parts[0], data=data, blocks=tuple(blocks), name=name)


def _free(name: str, taken: set[str]) -> str:
    number = 2
    found = name
    while found in taken:
        found, number = f"{name} {number}", number + 1
    return found


def table_of(maps: NDArray[Any], R_shape: tuple[int, int]) -> Float32:
    """Maps (Rx, Ry, …) as rows of features, (Rx * Ry, n) float32."""
    if maps.shape[:2] != R_shape:
        raise ShapeError(f"maps of {maps.shape[:2]} positions for a scan of {R_shape}")
    with np.errstate(over="ignore"):  # what float32 cannot hold is unknown
        return np.ascontiguousarray(maps.reshape(math.prod(R_shape), -1), dtype=np.float32)


# ---- in files ------------------------------------------------------------------------------------
def _to_parts(features: Features) -> dict[str, Any]:
    blocks = [asdict(block) for block in features.blocks]
    return {**vars(features), "blocks": blocks, "history": features.history.to_dict()}


def _from_parts(parts: Mapping[str, Any]) -> Features:
    tuples = ("shape", "labels", "start")
    tables: list[dict[str, Any]] = [
        {k: tuple(v) if k in tuples else v for k, v in block.items()} for block in parts["blocks"]
    ]
    blocks = tuple(FeatureBlock(**table) for table in tables)
    shape = tuple(parts["R_shape"])
    history = History.from_dict(parts["history"])
    return Features(**{**parts, "blocks": blocks, "R_shape": shape, "history": history})


register_result("features", Features, _to_parts, _from_parts)
