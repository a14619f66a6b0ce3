"""How far two sets of classes agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from py4DSTEM.core.detector import MaskArray
from py4DSTEM.core.history import History
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.classes.judge import adjusted_rand, confusion
from py4DSTEM.process.classes.patterns import ClassesParameter
from py4DSTEM.process.classes.result import Classes
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

__all__ = ["ClassAgreement", "CompareClasses", "compare_classes"]

Int = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ClassAgreement:
    """How far two sets of classes agree.

    Parameters
    ----------
    adjusted_rand : float
        Adjusted Rand index: 1 the same classes, 0 as by chance; numbers do not matter.
    share : float
        Positions that are in the same class, when each class of one is matched with the one of the
        other that gives the largest share.
    counts : (n, m) int64
        Positions by class of the first (rows) and of the second (columns).
    names, others : tuple of str
        Of the rows and of the columns.
    matches : tuple of (int, int)
        Row and column of classes that belong together.
    positions : int
        That were compared: classified by both.
    """

    adjusted_rand: float
    share: float
    counts: Int
    names: tuple[str, ...]
    others: tuple[str, ...]
    matches: tuple[tuple[int, int], ...]
    positions: int
    history: History = field(default_factory=History)
    name: str = "agreement of classes"

    def text(self) -> str:
        """The numbers, and which class is which."""
        lines = [
            f"{self.name}: adjusted Rand index {self.adjusted_rand:.3f}, {self.share:.1%} of "
            f"{self.positions} positions in the same class"
        ]
        for i, j in self.matches:
            same, of = self.counts[i, j], self.counts[i].sum()
            lines.append(f"{self.names[i]} is {self.others[j]}: {same} of {of} positions")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<ClassAgreement {self.adjusted_rand:.3f} of {self.positions} positions>"


def _to_parts(found: ClassAgreement) -> dict[str, Any]:
    return {**vars(found), "history": found.history.to_dict()}


def _from_parts(parts: Mapping[str, Any]) -> ClassAgreement:
    matches = tuple((int(i), int(j)) for i, j in parts["matches"])
    text = {name: tuple(parts[name]) for name in ("names", "others")}
    history = History.from_dict(parts["history"])
    return ClassAgreement(**{**parts, **text, "matches": matches, "history": history})


register_result("class-agreement", ClassAgreement, _to_parts, _from_parts)


class CompareClasses(Analysis, kind="compare-classes", version=1):
    """How far classes agree with others of the same scan."""

    other: ClassesParameter = Field(
        description="The other classes, or a map (Rx, Ry) of their numbers, −1 for none.",
        json_schema_extra={"accepts": ["Classes"]},
    )
    within: MaskArray | None = Field(
        None, description="(Rx, Ry) of true and false: positions that are compared; None: all."
    )

    accepts: ClassVar[tuple[type, ...]] = (Classes,)
    cites: ClassVar[tuple[str, ...]] = ("10.1007/BF01908075",)

    def apply(self, value: Any, options: RunOptions | None = None) -> ClassAgreement:
        """The agreement; `options` are not needed."""
        from scipy.optimize import linear_sum_assignment

        self.check(value)
        other: Classes = self.other
        inside = self._inside(value, other)
        table, rows, columns = confusion(value.labels[inside], other.labels[inside])
        first, second = linear_sum_assignment(table, maximize=True)
        pairs = [(int(i), int(j)) for i, j in zip(first, second, strict=True) if table[i, j]]
        return ClassAgreement(
            adjusted_rand=adjusted_rand(value.labels[inside], other.labels[inside]),
            share=float(sum(table[i, j] for i, j in pairs) / inside.sum()),
            counts=table,
            names=tuple(value.names[k] for k in rows),
            others=tuple(other.names[k] for k in columns),
            matches=tuple(pairs),
            positions=int(inside.sum()),
            history=self.history(value.history),
        )

    def _inside(self, value: Classes, other: Classes) -> NDArray[np.bool_]:
        if value.R_shape != other.R_shape:
            raise ShapeError(f"classes of {value.R_shape} and of {other.R_shape} positions")
        inside = value.classified & other.classified
        if self.within is not None:
            if self.within.shape != value.R_shape:
                raise ShapeError(f"within has {self.within.shape}, the classes {value.R_shape}")
            inside = inside & (self.within != 0)
        if not inside.any():
            raise ParameterError("no position is classified by both: there is nothing to compare")
        return np.asarray(inside)


def compare_classes(
    classes: Classes, other: Classes | ArrayLike, *, within: ArrayLike | None = None
) -> ClassAgreement:
    """How far classes agree with others of the same scan, such as a known map of labels.

    Parameters
    ----------
    classes : Classes
    other : Classes or (Rx, Ry) int array
        −1: not classified.
    within : (Rx, Ry) bool, optional
        Positions that are compared, of those that both have classified.

    Returns
    -------
    ClassAgreement
        ``.adjusted_rand`` (Hubert and Arabie, doi:10.1007/BF01908075), ``.share`` of positions in
        the same class, ``.counts``, ``.matches``.

    Raises
    ------
    ShapeError, ParameterError
        Of another scan; nothing to compare.

    Examples
    --------
    >>> from py4DSTEM.process.classes.result import classes_of
    >>> found = compare_classes(classes_of([[0, 0, 0, 1]]), [[3, 3, 3, 2]])
    >>> found.adjusted_rand, found.share
    (1.0, 1.0)
    """
    given = other if isinstance(other, Classes) else np.asarray(other)
    mask = None if within is None else np.asarray(within)
    return CompareClasses(other=given, within=mask).apply(classes)
