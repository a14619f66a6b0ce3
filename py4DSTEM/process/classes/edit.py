"""Classes changed by hand or by rule: merged, split, renamed, smoothed, separated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.process.classes.classify import Classify, Method
from py4DSTEM.process.classes.features import Features
from py4DSTEM.process.classes.result import (
    NOT_CLASSIFIED,
    Classes,
    default_names,
    hard_weights,
    size_order,
)
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

__all__ = [
    "MergeClasses",
    "RenameClasses",
    "SeparateClasses",
    "SmoothClasses",
    "SplitClass",
    "merge_classes",
    "rename_classes",
    "separate_classes",
    "smooth_classes",
    "split_class",
]

Float = NDArray[np.float64]
Labels = NDArray[np.int32]
Which = int | str


def _relabelled(
    classes: Classes, labels: Labels, names: Sequence[str], of: Sequence[int], step: Analysis
) -> Classes:
    """Other labels, class k made of the old class ``of[k]``; numbered by size again.

    What described the old classes and need not hold for the new ones is left out.
    """
    count = len(names)
    components = None if classes.components is None else classes.components[list(of)]
    made = replace(
        classes,
        labels=np.asarray(labels, np.int32),
        weights=hard_weights(labels, count),
        names=tuple(names),
        components=components,
        patterns=None,
        silhouette=None,
        stability=None,
        history=step.history(classes.history),
    )
    return made.reordered(size_order(made.labels, count))


# ---- merge ---------------------------------------------------------------------------------------
class MergeClasses(Analysis, kind="merge-classes", version=1):
    """Several classes made one."""

    which: tuple[Which, ...] = Field(
        min_length=2, description="Numbers or names of the classes that become one."
    )

    accepts: ClassVar[tuple[type, ...]] = (Classes,)

    def apply(self, value: Any, options: RunOptions | None = None) -> Classes:
        """The classes with fewer among them; `options` are not needed."""
        self.check(value)
        merged = sorted({value.index(k) for k in self.which})
        kept = [k for k in range(value.n) if k not in merged[1:]]
        number = np.array([kept.index(merged[0] if k in merged else k) for k in range(value.n)])
        number = np.append(number, NOT_CLASSIFIED)
        names = [value.names[k] for k in kept]
        if value.names == default_names(value.n):
            names = list(default_names(len(kept)))
        weights = np.zeros((*value.R_shape, len(kept)), np.float32)
        for k in range(value.n):
            weights[..., number[k]] += value.weights[..., k]
        made = _relabelled(value, number[value.labels], names, kept, self)
        order = size_order(number[value.labels], len(kept))
        return replace(
            made,
            weights=weights[..., order],
            components=_joined(value.components, value.sizes, number, order),
            patterns=_joined(value.patterns, value.sizes, number, order),
        )


def _joined(
    rows: Float | None, sizes: NDArray[np.int64], number: NDArray[Any], order: list[int]
) -> Float | None:
    """Means of the rows that are merged, by the positions of each, in a new order."""
    if rows is None:
        return None
    made = []
    for new in order:
        old = np.flatnonzero(number[:-1] == new)
        shares = sizes[old] / sizes[old].sum() if sizes[old].sum() else np.full(len(old), 1.0)
        filled = [share * rows[k] for k, share in zip(old, shares, strict=True) if share or
                  len(old) == 1]  # fmt: skip
        made.append(np.sum(filled, axis=0) if filled else rows[old[0]])
    return np.stack(made)


def merge_classes(classes: Classes, which: Sequence[Which]) -> Classes:
    """Make several classes one.

    Parameters
    ----------
    classes : Classes
    which : sequence of int or str
        Numbers or names; the new class takes the name of the lowest number.

    Returns
    -------
    Classes
        Numbered by size again.  Weights are added; components and patterns become means over the
        positions.

    Examples
    --------
    >>> from py4DSTEM.process.classes.result import classes_of
    >>> found = classes_of([[0, 0, 0, 1, 2]])
    >>> merge_classes(found, [1, 2]).labels.tolist()
    [[0, 0, 0, 1, 1]]
    """
    return MergeClasses(which=tuple(which)).apply(classes)


# ---- split ---------------------------------------------------------------------------------------
class SplitClass(Analysis, kind="split-class", version=1):
    """One class split into several by the features of its positions."""

    which: Which = Field(description="Number or name of the class.")
    features: Any = Field(
        description="Features of the same scan.",
        json_schema_extra={"accepts": ["Features"]},
        exclude=True,
    )
    n: PositiveInt = Field(2, ge=2, description="Number of parts.")
    method: Method = Field(
        "kmeans", description="What finds the classes; the methods are those of classify."
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Of all random choices.")

    accepts: ClassVar[tuple[type, ...]] = (Classes,)

    def apply(self, value: Any, options: RunOptions | None = None) -> Classes:
        """The classes with more among them."""
        self.check(value)
        if not isinstance(self.features, Features):
            raise ParameterError(
                f"a class is split by Features, not by a {type(self.features).__name__}"
            )
        if self.features.R_shape != value.R_shape:
            raise ShapeError(
                f"features of {self.features.R_shape} positions, classes of {value.R_shape}"
            )
        k = value.index(self.which)
        inside = value.labels == k
        data = np.where(inside.ravel()[:, None], self.features.data, np.float32(np.nan))
        step = Classify(method=self.method, n=self.n, seed=self.seed, stability_runs=0)
        parts: Classes = step.apply(replace(self.features, data=data), options)
        names = [n for j, n in enumerate(value.names) if j != k]
        of = [j for j in range(value.n) if j != k] + [k] * parts.n
        names += [f"{value.names[k]}.{part}" for part in range(parts.n)]
        if value.names == default_names(value.n):
            names = list(default_names(len(of)))
        number = np.append(np.cumsum(np.arange(value.n) != k) - 1, NOT_CLASSIFIED)
        labels = np.where(inside, parts.labels + value.n - 1, number[value.labels])
        labels = np.where(inside & (parts.labels < 0), NOT_CLASSIFIED, labels)
        return _relabelled(replace(value, components=None), labels, names, of, self)


def split_class(
    classes: Classes,
    which: Which,
    features: Features,
    *,
    n: int = 2,
    method: Method = "kmeans",
    seed: int = 0,
) -> Classes:
    """Split one class by the features of its positions.

    Parameters
    ----------
    classes : Classes
    which : int or str
        Number or name of the class.
    features : Features
        Of the same scan, not necessarily those that made the classes.
    n : int
        Number of parts.
    method : str
        As for `classify`.
    seed : int
        Of all random choices.

    Returns
    -------
    Classes
        Numbered by size again; weights are 0 or 1.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import features
    >>> from py4DSTEM.process.classes.result import classes_of
    >>> table = features(np.array([[0.0, 0.1, 5.0, 9.0, 9.2, 9.1]]))
    >>> split_class(classes_of([[0, 0, 0, 1, 1, 1]]), 0, table).sizes.tolist()
    [3, 2, 1]
    """
    step = SplitClass(which=which, features=features, n=n, method=method, seed=seed)
    return step.apply(classes)


# ---- rename --------------------------------------------------------------------------------------
class RenameClasses(Analysis, kind="rename-classes", version=1):
    """Other names for classes."""

    names: dict[str, str] = Field(description="Number or name of a class → its new name.")

    accepts: ClassVar[tuple[type, ...]] = (Classes,)

    def apply(self, value: Any, options: RunOptions | None = None) -> Classes:
        """The same classes; `options` are not needed."""
        self.check(value)
        names = list(value.names)
        for old, new in self.names.items():
            numbered = old not in value.names and old.isdecimal()
            names[value.index(int(old) if numbered else old)] = new
        renamed: Classes = replace(value, names=tuple(names), history=self.history(value.history))
        return renamed


def rename_classes(classes: Classes, names: Mapping[Which, str] | Sequence[str]) -> Classes:
    """Give classes other names.

    Parameters
    ----------
    classes : Classes
    names : mapping of number or name to new name, or a sequence of all names

    Returns
    -------
    Classes

    Examples
    --------
    >>> from py4DSTEM.process.classes.result import classes_of
    >>> rename_classes(classes_of([[0, 0, 1]]), {1: "matrix"}).names
    ('class 0', 'matrix')
    """
    pairs = names if isinstance(names, Mapping) else dict(enumerate(names))
    return RenameClasses(names={str(k): new for k, new in pairs.items()}).apply(classes)


# ---- in the scan ---------------------------------------------------------------------------------
class SmoothClasses(Analysis, kind="smooth-classes", version=1):
    """Every position given the class that most positions around it have."""

    radius: PositiveInt = Field(
        1, le=50, description="Positions around each one, along each axis, that vote."
    )
    passes: PositiveInt = Field(1, le=100, description="How often they vote.")
    fill: bool = Field(False, description="Also give positions without class one.")

    accepts: ClassVar[tuple[type, ...]] = (Classes,)

    def apply(self, value: Any, options: RunOptions | None = None) -> Classes:
        """The classes with other labels; `options` are not needed."""
        self.check(value)
        labels = value.labels
        for _ in range(self.passes):
            voted = _majority(labels, value.n, self.radius)
            labels = voted if self.fill else np.where(labels >= 0, voted, labels)
        return _relabelled(value, labels, value.names, range(value.n), self)


def _majority(labels: Labels, count: int, radius: int) -> Labels:
    """The most frequent class around each position; of several its own, else the first."""
    from scipy.ndimage import uniform_filter

    size = 2 * radius + 1
    votes = np.stack(
        [
            np.rint(uniform_filter((labels == k).astype(np.float64), size, mode="constant")
                    * size**2)
            for k in range(count)
        ]
    )  # fmt: skip
    best = votes.argmax(axis=0)
    own = np.take_along_axis(votes, np.maximum(labels, 0)[None], axis=0)[0]
    stays = (labels >= 0) & (own == votes.max(axis=0))
    found = np.where(stays, labels, best)
    return np.asarray(np.where(votes.max(axis=0) > 0, found, labels), np.int32)


def smooth_classes(
    classes: Classes, *, radius: int = 1, passes: int = 1, fill: bool = False
) -> Classes:
    """Give every position the class that most positions around it have.

    Parameters
    ----------
    classes : Classes
    radius : int
        Positions along each axis that vote, to either side.
    passes : int
        How often.
    fill : bool
        Also give positions without class one, where there is any around.

    Returns
    -------
    Classes
        Numbered by size again; weights are 0 or 1.

    Examples
    --------
    >>> from py4DSTEM.process.classes.result import classes_of
    >>> smooth_classes(classes_of([[0, 0, 0], [0, 1, 0], [0, 0, 0]])).sizes.tolist()
    [9, 0]
    """
    return SmoothClasses(radius=radius, passes=passes, fill=fill).apply(classes)


class SeparateClasses(Analysis, kind="separate-classes", version=1):
    """Parts of classes that do not touch made classes of their own."""

    min_size: PositiveInt = Field(
        1, description="Positions of the smallest part; of smaller ones none is classified."
    )
    corners: bool = Field(False, description="Positions also touch at their corners.")

    accepts: ClassVar[tuple[type, ...]] = (Classes,)

    def apply(self, value: Any, options: RunOptions | None = None) -> Classes:
        """The classes with more among them; `options` are not needed."""
        from scipy.ndimage import label

        self.check(value)
        structure = np.ones((3, 3)) if self.corners else None
        labels = np.full(value.R_shape, NOT_CLASSIFIED, np.int32)
        of: list[int] = []
        names: list[str] = []
        for k in range(value.n):
            parts, _ = label(value.labels == k, structure)
            sizes = np.bincount(parts.ravel())[1:]
            large = np.flatnonzero(sizes >= self.min_size)
            for number, part in enumerate(large[np.argsort(-sizes[large], kind="stable")]):
                labels[parts == part + 1] = len(of)
                of.append(k)
                names.append(value.names[k] if len(large) == 1 else f"{value.names[k]}.{number}")
        if not of:
            raise ParameterError(
                f"no part of a class has {self.min_size} positions: lower min_size"
            )
        if value.names == default_names(value.n):
            names = list(default_names(len(of)))
        return _relabelled(value, labels, names, of, self)


def separate_classes(classes: Classes, *, min_size: int = 1, corners: bool = False) -> Classes:
    """Make parts of classes that do not touch classes of their own: grains of the same kind.

    Parameters
    ----------
    classes : Classes
    min_size : int
        Positions of the smallest part; those of smaller ones are not classified.
    corners : bool
        Whether positions touch at their corners.

    Returns
    -------
    Classes
        Numbered by size again; weights are 0 or 1.

    Examples
    --------
    >>> from py4DSTEM.process.classes.result import classes_of
    >>> separate_classes(classes_of([[0, 0, 1, 0]])).labels.tolist()
    [[0, 0, 1, 2]]
    """
    return SeparateClasses(min_size=min_size, corners=corners).apply(classes)
