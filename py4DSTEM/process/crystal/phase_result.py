"""What a phase map is: which crystals are at every scan position, and how much of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.crystal.result import OrientationMap

__all__ = ["AMORPHOUS", "PhaseMap"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

AMORPHOUS = "amorphous"
"""Name of what scatters without peaks; the last of the phases, if it is one."""


@dataclass(frozen=True, eq=False, repr=False)
class PhaseMap:
    """Crystals at every scan position, how much of each, and how sure that is.

    Parameters
    ----------
    labels : (Rx, Ry) int64
        Phase with the largest share, as an index into `names`; −1: not indexed.
    names : tuple of str
        Of the n phases: the crystals and, last, ``"amorphous"`` where that was looked for.
    fractions : (Rx, Ry, n) float64
        Share of each phase; their sum is one.  NaN where nothing is indexed.  Of crystals: the
        scale of their pattern relative to that of a position with nothing else.
    sigma : (Rx, Ry, n) float64
        Standard deviations.
    confidence : (Rx, Ry) float64
        From 0 to 1: how probable the first of `components` is of the right phase; of amorphous
        positions how probable it is that less than half is crystalline (NaN without a
        crystallinity map: nothing but the lack of peaks says so).
    gap : (Rx, Ry) float64
        By how much the first component explains the peaks better than any other crystal does
        (nats).
    components : (Rx, Ry, m) int64
        Crystal of each pattern that was found, strongest evidence first; −1: none.
    evidence : (Rx, Ry, m) float64
        Logarithm of how much better the peaks are explained with it than without; NaN: none.
    scale : (Rx, Ry, m) float64
        Of each pattern: 1 is that of a position with nothing else; NaN: none.
    residual : (Rx, Ry) float64
        Share of the amplitude of the scattered peaks that no crystal explains; NaN without peaks.
    n_peaks : (Rx, Ry) int64
        Scattered peaks within reach.
    orientations : tuple of OrientationMap
        One per crystal; a position holds as many orientations of it as it has components.
    calibration : Calibration
        With the pixel size and ellipse that fit the crystals, where these were refined.
    report : mapping
        Counts, what was learnt, and doubts.
    """

    labels: NDArray[np.int64]
    names: tuple[str, ...]
    fractions: Float
    sigma: Float
    confidence: Float
    gap: Float
    components: NDArray[np.int64]
    evidence: Float
    scale: Float
    residual: Float
    n_peaks: NDArray[np.int64]
    orientations: tuple[OrientationMap, ...]
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "phases"
    report: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape, n = self.labels.shape, len(self.names)
        m = self.components.shape[-1]
        if not len(self.orientations) <= n <= len(self.orientations) + 1:
            raise ShapeError(f"{n} names of {len(self.orientations)} maps of orientations")
        expected = {
            "fractions": (n,), "sigma": (n,), "confidence": (), "gap": (), "components": (m,),
            "evidence": (m,), "scale": (m,), "residual": (), "n_peaks": (),
        }  # fmt: skip
        for name, tail in expected.items():
            if getattr(self, name).shape != (*shape, *tail):
                raise ShapeError(f"{name} is {(*shape, *tail)}, not {getattr(self, name).shape}")

    # ---- views -----------------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[int, int]:
        """Scan shape."""
        return self.labels.shape[0], self.labels.shape[1]

    @property
    def indexed(self) -> Bool:
        """Where there is a phase, (Rx, Ry)."""
        return np.asarray(self.labels >= 0)

    @property
    def mixed(self) -> Bool:
        """Where more than one pattern was found, (Rx, Ry)."""
        return np.asarray((self.components >= 0).sum(axis=-1) > 1)

    def index(self, phase: str | int) -> int:
        """Number of a phase by its name or number."""
        if isinstance(phase, str) and phase in self.names:
            return self.names.index(phase)
        if not isinstance(phase, str) and 0 <= phase < len(self.names):
            return int(phase)
        raise ParameterError(f"no phase {phase!r}: one of {', '.join(self.names)}")

    def fraction(self, phase: str | int) -> Float:
        """Share of one phase, (Rx, Ry)."""
        return np.asarray(self.fractions[..., self.index(phase)])

    def mask(self, phase: str | int) -> Bool:
        """Where a phase is the largest, (Rx, Ry)."""
        return np.asarray(self.labels == self.index(phase))

    def orientation(self, phase: str | int) -> OrientationMap:
        """Orientations of one crystal."""
        k = self.index(phase)
        if k >= len(self.orientations):
            raise ParameterError(f"{self.names[k]} has no orientations")
        return self.orientations[k]

    @property
    def area_share(self) -> Float:
        """Mean share of each phase over the positions that are indexed, (n,)."""
        known = np.isfinite(self.fractions).all(axis=-1)
        if not known.any():
            return np.full(len(self.names), np.nan)
        return np.asarray(self.fractions[known].mean(axis=0))

    def to_slice(self) -> RealSlice:
        """Labels, shares with their sigmas, confidence and residual as one labelled stack."""
        maps = {"label": self.labels.astype(np.float64)}
        maps |= {name: self.fractions[..., k] for k, name in enumerate(self.names)}
        maps |= {f"sigma {name}": self.sigma[..., k] for k, name in enumerate(self.names)}
        maps |= {"confidence": self.confidence, "residual": self.residual}
        return RealSlice(
            np.stack(list(maps.values())),
            self.calibration,
            self.history,
            self.name,
            tuple(maps),
            "",
        )

    def text(self) -> str:
        """How much of each phase there is, one per line."""
        size = self.labels.size
        lines = [
            f"{self.name}: {int(self.indexed.sum())} of {size} positions, "
            f"{int(self.mixed.sum())} with several patterns"
        ]
        for k, (name, share) in enumerate(zip(self.names, self.area_share, strict=True)):
            here = self.labels == k
            sure = self.confidence[here & np.isfinite(self.confidence)]
            words = f"{name}: {int(here.sum())} positions, mean share {share:.1%}"
            lines.append(words + (f", confidence {np.median(sure):.3f}" if sure.size else ""))
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<PhaseMap {self.name!r} {self.shape}, {', '.join(self.names)}>"


def _to_parts(value: PhaseMap) -> dict[str, Any]:
    maps = {f"orientation_{k}": one for k, one in enumerate(value.orientations)}
    return {
        **{name: part for name, part in vars(value).items() if name != "orientations"},
        **maps,
        "names": list(value.names),
        "history": value.history.to_dict(),
        "report": dict(value.report),
    }


def _from_parts(parts: Mapping[str, Any]) -> PhaseMap:
    given = dict(parts)
    names = [name for name in given if name.startswith("orientation_")]
    maps = tuple(given.pop(f"orientation_{k}") for k in range(len(names)))
    return PhaseMap(
        **{
            **given,
            "names": tuple(given["names"]),
            "orientations": maps,
            "history": History.from_dict(given["history"]),
        }
    )


register_result("phase-map", PhaseMap, _to_parts, _from_parts)
