"""What a classification is: a label and weights for every scan position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import DiffractionSlice, RealSlice
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.io.store.schema import register_result

__all__ = ["NOT_CLASSIFIED", "Classes", "classes_of", "hard_weights", "size_order"]

Bool = NDArray[np.bool_]
Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Labels = NDArray[np.int32]

NOT_CLASSIFIED = -1
"""Label of a position that belongs to no class."""


@dataclass(frozen=True, eq=False)
class Classes:
    """Classes of scan positions; class 0 is the largest.

    Parameters
    ----------
    labels : (Rx, Ry) int32
        Class of each position, 0 … n − 1; −1: not classified.
    weights : (Rx, Ry, n) float32
        How much of each class or component a position holds: 0 or 1 for hard clusters,
        probabilities for mixtures, amounts for NMF, scores for PCA and ICA; NaN where a position
        has no features.
    names : tuple of str
        One per class.
    components : (n, n_features) float64, optional
        Each class in the space of the features, before they were scaled.
    feature_names : tuple of str
        Of the columns of `components`.
    patterns : (n, Qx, Qy) float64, optional
        Mean pattern of each class (`class_patterns` makes them); NaN for a class without positions.
    silhouette : (Rx, Ry) float64, optional
        (b − a) / max(a, b) of each position: 1 inside a class, 0 between two, −1 in the wrong one;
        NaN where it was not computed.
    stability : float, optional
        Mean adjusted Rand index between runs of other seeds or on parts of the data.
    method : str
        What made the classes.
    report : mapping
        Numbers of the fit.
    """

    labels: Labels
    weights: Float32
    names: tuple[str, ...] = ()
    components: Float | None = None
    feature_names: tuple[str, ...] = ()
    patterns: Float | None = None
    silhouette: Float | None = None
    stability: float | None = None
    method: str = ""
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "classes"
    report: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = self.weights.shape[-1] if self.weights.ndim == 3 else -1
        if self.labels.ndim != 2 or self.weights.shape != (*self.labels.shape, n) or n < 1:
            raise ShapeError(
                f"classes need labels (Rx, Ry) and weights (Rx, Ry, n), not {self.labels.shape} "
                f"and {self.weights.shape}"
            )
        low, high = (int(f(self.labels)) for f in (np.min, np.max))
        if low < NOT_CLASSIFIED or high >= n:
            raise ParameterError(
                f"labels of {n} classes lie between -1 and {n - 1}, not {low} … {high}"
            )
        object.__setattr__(self, "names", self.names or default_names(n))
        if len(self.names) != n or len(set(self.names)) != n:
            raise ParameterError(f"{n} classes need as many different names, not {self.names}")
        for part in ("components", "patterns"):
            array = getattr(self, part)
            if array is not None and len(array) != n:
                raise ShapeError(f"{part} of {len(array)} classes, labels of {n}")
        if self.silhouette is not None and self.silhouette.shape != self.labels.shape:
            raise ShapeError(f"a silhouette of {self.silhouette.shape}, labels {self.R_shape}")

    # ---- numbers ---------------------------------------------------------------------------------
    @property
    def n(self) -> int:
        """Number of classes."""
        return int(self.weights.shape[-1])

    @property
    def R_shape(self) -> tuple[int, int]:
        """Scan shape."""
        return self.labels.shape[0], self.labels.shape[1]

    @property
    def classified(self) -> Bool:
        """Positions that belong to a class, (Rx, Ry)."""
        return np.asarray(self.labels >= 0)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Positions in each class, (n,)."""
        return np.bincount(self.labels[self.classified], minlength=self.n).astype(np.int64)

    @property
    def mean_silhouette(self) -> float:
        """Mean of `silhouette` over the positions that have one; NaN where none has."""
        if self.silhouette is None or not np.isfinite(self.silhouette).any():
            return float("nan")
        return float(np.nanmean(self.silhouette))

    def index(self, which: int | str) -> int:
        """Number of a class, given by number or name.

        Raises
        ------
        ParameterError
            There is none such.
        """
        if isinstance(which, str) and which in self.names:
            return self.names.index(which)
        if isinstance(which, int | np.integer) and 0 <= which < self.n:
            return int(which)
        raise ParameterError(f"there is no class {which!r}, only {list(self.names)}")

    def mask(self, which: int | str) -> Bool:
        """Positions of one class, (Rx, Ry); goes into ``where=`` of any step."""
        return np.asarray(self.labels == self.index(which))

    # ---- views -----------------------------------------------------------------------------------
    def __getitem__(self, which: int | str) -> DiffractionSlice:
        """Mean pattern of one class."""
        k = self.index(which)
        if self.patterns is None:
            raise ParameterError(
                "these classes have no patterns yet: class_patterns(cube, classes) makes them"
            )
        return DiffractionSlice(self.patterns[k], self.calibration, self.history, self.names[k])

    @property
    def label_map(self) -> RealSlice:
        """The labels as an image; NaN where not classified."""
        image = np.where(self.classified, self.labels, np.nan)
        return RealSlice(image, self.calibration, self.history, self.name)

    @property
    def weight_maps(self) -> RealSlice:
        """The weights as a stack of images, one per class."""
        maps = np.ascontiguousarray(np.moveaxis(self.weights, -1, 0), dtype=np.float64)
        return RealSlice(maps, self.calibration, self.history, self.name, self.names)

    def text(self) -> str:
        """What was found, a line per class."""
        left = int((~self.classified).sum())
        lines = [f"{self.name}: {self.n} classes of {self.labels.size} positions by {self.method}"]
        for k, (name, size) in enumerate(zip(self.names, self.sizes, strict=True)):
            quality = f", silhouette {self._silhouette_of(k):.2f}" if self._has(k) else ""
            lines.append(f"{k}: {name}: {size} positions ({size / self.labels.size:.1%}){quality}")
        if left:
            lines.append(f"not classified: {left}")
        if np.isfinite(self.mean_silhouette):
            lines.append(f"mean silhouette: {self.mean_silhouette:.3f}")
        if self.stability is not None:
            lines.append(f"stability (adjusted Rand index between runs): {self.stability:.3f}")
        return "\n".join(lines)

    def _has(self, k: int) -> bool:
        found = None if self.silhouette is None else self.silhouette[self.labels == k]
        return found is not None and bool(np.isfinite(found).any())

    def _silhouette_of(self, k: int) -> float:
        values = np.asarray(self.silhouette)[self.labels == k]
        return float(np.nanmean(values))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.labels, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        left = int((~self.classified).sum())
        tail = f", {left} not classified" if left else ""
        return f"<Classes {self.name!r} {self.R_shape}: {self.n} by {self.method}{tail}>"

    # ---- the same classes in another order -------------------------------------------------------
    def reordered(self, order: Sequence[int]) -> Self:
        """The same classes renumbered: new class k is the old class ``order[k]``."""
        order = list(order)
        if sorted(order) != list(range(self.n)):
            raise ParameterError(f"order must name each of {self.n} classes once, not {order}")
        new = np.empty(self.n + 1, np.int32)
        new[order] = np.arange(self.n)
        new[-1] = NOT_CLASSIFIED  # what label −1 looks up
        plain = self.names == default_names(self.n)
        return replace(
            self,
            labels=new[self.labels],
            weights=self.weights[..., order],
            names=self.names if plain else tuple(self.names[k] for k in order),
            components=None if self.components is None else self.components[order],
            patterns=None if self.patterns is None else self.patterns[order],
        )


def default_names(n: int) -> tuple[str, ...]:
    """Names of classes that nobody named.

    >>> default_names(2)
    ('class 0', 'class 1')
    """
    return tuple(f"class {k}" for k in range(n))


def hard_weights(labels: ArrayLike, n: int) -> Float32:
    """Weights 1 for the class of each position and 0 for others, (Rx, Ry, n)."""
    return np.asarray(np.asarray(labels)[..., None] == np.arange(n), dtype=np.float32)


def size_order(labels: ArrayLike, n: int) -> list[int]:
    """Classes from the largest to the smallest; of two alike first the one that comes first.

    >>> size_order([[2, 0, 0], [-1, 2, 1]], 3)
    [2, 0, 1]
    """
    flat = np.asarray(labels).ravel()
    kept = flat[flat >= 0]
    sizes = np.bincount(kept, minlength=n)
    first = np.full(n, flat.size)
    values, places = np.unique(flat, return_index=True)
    first[values[values >= 0]] = places[values >= 0]
    return [int(k) for k in np.lexsort((first, -sizes))]


def classes_of(labels: ArrayLike, weights: ArrayLike | None = None, **parts: Any) -> Classes:
    """Classes of any labels, numbered from the largest to the smallest.

    Parameters
    ----------
    labels : (Rx, Ry) int
        0 … n − 1, −1 for positions without a class.
    weights : (Rx, Ry, n) float, optional
        None: one for the class of a position, zero for others.
    **parts
        Other fields of `Classes`, in the order of the old numbers.

    Returns
    -------
    Classes
    """
    found = np.asarray(labels, dtype=np.int32)
    n = max(int(found.max(initial=NOT_CLASSIFIED)) + 1, 1)
    shares = hard_weights(found, n) if weights is None else np.asarray(weights, np.float32)
    unordered = Classes(found, shares, **parts)
    return unordered.reordered(size_order(found, unordered.n))


# ---- in files ------------------------------------------------------------------------------------
def _to_parts(classes: Classes) -> dict[str, Any]:
    return {**vars(classes), "history": classes.history.to_dict()}


def _from_parts(parts: Mapping[str, Any]) -> Classes:
    text = {name: tuple(parts[name]) for name in ("names", "feature_names")}
    return Classes(**{**parts, **text, "history": History.from_dict(parts["history"])})


register_result("classes", Classes, _to_parts, _from_parts)
