"""What the panel of the Bragg disks asks for, and what is done for it off the GUI thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from py4DSTEM.core.cube import Cube
from py4DSTEM.gui.panels.bragg_tiles import Tile, tile, tiles_of
from py4DSTEM.process.bragg.detect import FindBraggDisks
from py4DSTEM.process.bragg.preview import Preview, Previews
from py4DSTEM.process.bragg.spot import Spot
from py4DSTEM.process.probe import MeasureProbe, Probe, measure_probe, synthetic_probe
from py4DSTEM.stream.options import RunOptions

__all__ = ["Bench", "ProbeWish", "Shown", "Wish", "measured_probe", "probe_step"]


@dataclass(frozen=True, eq=False)
class ProbeWish:
    """Where the probe comes from.

    Parameters
    ----------
    kind : str
        "auto": measured in the sampled patterns; "value": a probe that there is already;
        "synthetic": a disk of `size_px` radius; "spots": a Gaussian of `size_px`, None: measured.
    """

    kind: Literal["auto", "value", "synthetic", "spots"] = "auto"
    value: Any = None
    size_px: float | None = None
    edge_px: float = 0.5


@dataclass(frozen=True, eq=False)
class Wish:
    """One preview; `cube` None: forget what is kept."""

    cube: Cube | None
    probe: ProbeWish = field(default_factory=ProbeWish)
    positions: tuple[tuple[int, int], ...] = ()
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Shown:
    """The answer: the search as it will be run, and what it finds."""

    search: FindBraggDisks
    preview: Preview
    tiles: tuple[Tile, ...]
    images: dict[str, Tile]


class Bench:
    """Answers wishes, and keeps what the next one may share; for one thread."""

    def __init__(self) -> None:
        self._cube: Cube | None = None
        self._previews: Previews | None = None
        self._made: tuple[Any, Any] = (None, None)

    def __call__(self, wish: Wish) -> Shown | None:
        if wish.cube is not self._cube:
            self._cube = wish.cube
            self._previews = None if wish.cube is None else Previews(wish.cube)
        if self._previews is None or self._cube is None:
            return None
        probe = self._probe(wish.probe, self._previews, self._cube)
        values = {"slope": 0.0} | wish.values if isinstance(probe, Spot) else wish.values
        if values.get("slope") == "auto" and isinstance(probe, Spot):
            values = values | {"slope": 0.0}  # spots have no inside that could be uneven
        search = FindBraggDisks(probe=probe, **values)
        preview = self._previews.preview(search, wish.positions)
        images = {name: tile(image.data, name) for name, image in self._previews.images().items()}
        return Shown(search, preview, tiles_of(preview), images)

    def _probe(self, wish: ProbeWish, previews: Previews, cube: Cube) -> Any:
        if wish.kind == "spots":
            return previews.spot() if wish.size_px is None else Spot(wish.size_px)
        if wish.kind != "synthetic":
            return wish.value if wish.kind == "value" else None
        numbers = (cube.Q_shape, wish.size_px or 1.0, wish.edge_px)
        if self._made[0] != numbers:  # the same probe has the same tables
            self._made = (numbers, synthetic_probe(*numbers))
        return self._made[1]


def probe_step(selection: Any, R_shape: tuple[int, int]) -> tuple[MeasureProbe, Any]:
    """The measurement of a probe at selected positions, and the selection where it cannot say so.

    >>> from py4DSTEM import DiskSelection, PointSelection
    >>> probe_step(PointSelection(1, 2), (4, 5))[0].where
    ((1, 2), (2, 3))
    >>> disk = DiskSelection(1.0, (2, 2))
    >>> probe_step(disk, (4, 5))[1] is disk
    True
    """
    mask = selection.mask(R_shape)
    if mask.all():
        return MeasureProbe(), None
    ends = tuple((int(at.min()), int(at.max()) + 1) for at in mask.nonzero() if at.size)
    if selection.kind in ("point", "rectangle") and len(ends) == 2:
        return MeasureProbe(where=(ends[0], ends[1])), None
    return MeasureProbe(), selection


def measured_probe(
    cube: Cube, step: MeasureProbe, where: Any, options: RunOptions | None = None
) -> Probe:
    """What that measurement gives."""
    if where is None:
        return step.apply(cube, options)
    return measure_probe(cube, where.mask(cube.R_shape), options=options)
