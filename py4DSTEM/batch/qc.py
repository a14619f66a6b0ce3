"""Quality limits: whether the numbers of a file's results are believable.

A number within its limits is ``ok``.  Beyond a limit by at most a tenth of it, or not known, it is
``yellow``: look at it.  Farther beyond, it is ``red``: the result ran through and is nonsense.
The names of the numbers are those of `py4DSTEM.report.quantities`; ``result.name`` means that of
one result only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from py4DSTEM.report.quantities import QUANTITIES, numbers_of

__all__ = ["LEVELS", "Level", "Verdict", "judged", "measured", "qc_record", "verdicts_of", "worst"]

Level = Literal["ok", "yellow", "red"]
LEVELS: tuple[Level, ...] = ("ok", "yellow", "red")
_NEAR = 0.1
"""Part of a limit by which a number may be beyond it and still be only yellow."""


class Limits(Protocol):
    """Smallest and largest allowed value; None: any."""

    @property
    def min(self) -> float | None: ...
    @property
    def max(self) -> float | None: ...


@dataclass(frozen=True)
class Verdict:
    """What a limit says about a file.

    Parameters
    ----------
    name : str
        As in ``[qc]``.
    level : "ok", "yellow" or "red"
    value : float, optional
        None where it is not known.
    result : str
        Of which result; "": none has such a number.
    message : str
    """

    name: str
    level: Level
    value: float | None
    result: str
    message: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dict(vars(self))


def measured(results: Mapping[str, Any]) -> dict[str, float | None]:
    """All numbers of some results as ``"result.name"`` → number; each result is read once.

    Parameters
    ----------
    results : mapping of str to result

    Returns
    -------
    dict
        None where there is no finite number.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import RealSlice
    >>> measured({"bf": RealSlice(np.array([[1.0, 3.0]]))})["bf.image_mean"]
    2.0
    """
    return {
        f"{result}.{name}": number if math.isfinite(number) else None
        for result in results
        for name, number in numbers_of(results[result]).items()
    }


def judged(
    numbers: Mapping[str, float | None], limits: Mapping[str, Limits]
) -> tuple[Verdict, ...]:
    """One verdict per limit; where several results have the number, the worst of them.

    Parameters
    ----------
    numbers : mapping
        As `measured` gives them.
    limits : mapping of str to Bounds
        ``[qc]`` of a recipe.

    Examples
    --------
    >>> from types import SimpleNamespace as Bounds
    >>> judged({"strain.unfitted_fraction": 0.3},
    ...        {"unfitted_fraction": Bounds(min=None, max=0.1)})[0].message
    'unfitted_fraction of strain is 0.3, above 0.1'
    """
    return tuple(_worst_of(name, numbers, bounds) for name, bounds in limits.items())


def qc_record(numbers: Mapping[str, float | None], limits: Mapping[str, Limits]) -> dict[str, Any]:
    """Numbers and verdicts of a file as plain JSON values: the ``qc`` of its row.

    Parameters
    ----------
    numbers : mapping of str to float or None
        As `measured` gives them.
    limits : mapping of str to Bounds

    Returns
    -------
    dict
        ``level``, ``verdicts`` (as `Verdict.to_dict`) and ``numbers``.
    """
    verdicts = judged(numbers, limits)
    return {
        "level": worst([v.level for v in verdicts]),
        "verdicts": [v.to_dict() for v in verdicts],
        "numbers": dict(numbers),
    }


def verdicts_of(record: Mapping[str, Any]) -> tuple[Verdict, ...]:
    """The verdicts of what `qc_record` gave."""
    return tuple(Verdict(**v) for v in record.get("verdicts", ()))


def worst(levels: Iterator[Level] | Sequence[Level]) -> Level:
    """The worst of some levels; ``ok`` of none."""
    return max(levels, key=LEVELS.index, default="ok")


# ---- one limit -----------------------------------------------------------------------------------
def _worst_of(name: str, numbers: Mapping[str, float | None], bounds: Limits) -> Verdict:
    asked, dot, wanted = name.rpartition(".")
    found = []
    for key, value in numbers.items():
        result, _, entry = key.rpartition(".")  # names of results may hold dots, entries do not
        if entry == wanted and (not dot or result == asked):
            found.append(_verdict(name, entry, result, value, bounds))
    if not found:
        return Verdict(name, "yellow", None, "", f"no result has a number {name}")
    return max(found, key=lambda verdict: LEVELS.index(verdict.level))


def _verdict(name: str, entry: str, result: str, value: float | None, bounds: Limits) -> Verdict:
    what = f"{entry} of {result}"
    if value is None or not math.isfinite(value):
        return Verdict(name, "yellow", None, result, f"{what} is not known")
    unit = QUANTITIES[entry].unit if entry in QUANTITIES else ""
    shown = f"{what} is {value:.6g}" + (f" {unit}" if unit not in ("", "1") else "")
    for limit, beyond, word in (
        (bounds.min, (bounds.min or 0) - value, "below"),
        (bounds.max, value - (bounds.max or 0), "above"),
    ):
        if limit is not None and beyond > 0:
            level: Level = "yellow" if beyond <= _NEAR * abs(limit) else "red"
            return Verdict(name, level, value, result, f"{shown}, {word} {limit:.6g}")
    return Verdict(name, "ok", value, result, shown)
