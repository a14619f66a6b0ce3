"""Classes of scan positions from their features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from py4DSTEM.errors import Cancelled, ParameterError
from py4DSTEM.process.classes.cluster import Clustering, clustered
from py4DSTEM.process.classes.decompose import Parts, Reduced, decomposed, reduced
from py4DSTEM.process.classes.features import Features
from py4DSTEM.process.classes.judge import adjusted_rand, silhouettes
from py4DSTEM.process.classes.quiet import single_threaded
from py4DSTEM.process.classes.result import NOT_CLASSIFIED, Classes, hard_weights, size_order
from py4DSTEM.process.classes.scaling import Missing, Scaled, scaled
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

__all__ = ["Classify", "Method", "classify"]

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Int = NDArray[np.int64]
Method = Literal["kmeans", "gmm", "agglomerative", "hdbscan", "nmf", "pca", "ica"]
AXES = 10
"""Principal components that clusters are looked for in, where nobody says."""
SAMPLE = 200
"""Positions of a class that silhouettes are measured to."""
_PART = 4000
"""Positions that each run for the stability takes."""
_FINE, _ROUGH = 1e-5, 1e-3
"""Where NMF ends: of all positions, and of a part, to see whether it is the same."""


@dataclass(frozen=True, eq=False)
class _Fit:
    """Classes of the positions of a `Scaled`, not yet in any order."""

    labels: Int
    weights: Float32
    components: Float
    report: dict[str, Any] = field(default_factory=dict)


class Classify(Analysis, kind="classify", version=1):
    """Classes of scan positions from their features.

    Hard classes by k-means, agglomerative (Ward) clustering or HDBSCAN, probabilities by Gaussian
    mixtures, amounts of components by NMF, scores by PCA and ICA.
    """

    method: Method = Field(
        "kmeans",
        description="kmeans, gmm, agglomerative and hdbscan find groups of positions; nmf, pca and "
        "ica find components of which every position is a sum.",
    )
    n: PositiveInt | None = Field(
        None, le=1000, description="Number of classes; hdbscan finds its own."
    )
    axes: Literal["auto"] | PositiveInt | None = Field(
        "auto",
        description="Principal components of the features in which groups are looked for; auto: "
        "10, or n if that is more; None: all features as they are.",
    )
    connected: bool = Field(
        False, description="For agglomerative: join only groups that touch in the scan."
    )
    min_size: int = Field(20, ge=2, description="For hdbscan: positions of the smallest group.")
    missing: Missing = Field(
        "mask",
        description="Positions with an unknown feature: mask leaves them unclassified, median puts "
        "the median of the feature.",
    )
    stability_runs: int = Field(
        5, ge=0, le=100, description="Runs on random parts of the positions, to see whether the "
        "classes are the same; 0: none."
    )  # fmt: skip
    seed: int = Field(0, ge=0, lt=2**31, description="Of all random choices.")

    accepts: ClassVar[tuple[type, ...]] = (Features,)
    cites: ClassVar[tuple[str, ...]] = (
        "10.48550/arXiv.1201.0490",
        "10.1016/0377-0427(87)90125-7",
    )

    def apply(self, value: Any, options: RunOptions | None = None) -> Classes:
        """The classes of a table of features; of `options` count memory and cancel."""
        self.check(value)
        with single_threaded():
            return self._classes(value, options or RunOptions())

    def _classes(self, value: Features, options: RunOptions) -> Classes:
        budget = options.budget_bytes()
        rows = scaled(value, self.missing)
        space = self._space(rows, budget)
        fit = self._fit(rows, self.seed, budget, space=space)
        fit = _without_empty(fit) if self.method in get_args(Clustering) else fit
        count = fit.weights.shape[1]
        quality = silhouettes(space.points, fit.labels, sample=SAMPLE, seed=self.seed)
        agreement: list[float] = []
        for one in self._reruns(rows, fit.labels, budget, space) if count > 1 else ():
            agreement.append(one)
            if options.cancel is not None and options.cancel.is_set():
                raise Cancelled(f"{self.kind} was cancelled before it was judged")
        classes = Classes(
            labels=np.asarray(rows.place(fit.labels, NOT_CLASSIFIED), np.int32),
            weights=np.asarray(rows.place(fit.weights, np.nan), np.float32),
            components=fit.components,
            feature_names=value.names,
            silhouette=np.asarray(rows.place(quality, np.nan), np.float64),
            stability=float(np.mean(agreement)) if agreement else None,
            method=self.method,
            calibration=value.calibration,
            history=self.history(value.history),
            report={**rows.report, **fit.report, "stability of each run": agreement},
        )
        return classes.reordered(size_order(classes.labels, count))

    # ---- one fit ---------------------------------------------------------------------------------
    def _space(self, rows: Scaled, budget: int) -> Reduced:
        """Where positions are compared, also to judge components by."""
        count = max(AXES, self.n or 0) if self.axes == "auto" else self.axes
        return reduced(rows, count, self.seed, budget)

    def _fit(
        self,
        rows: Scaled,
        seed: int,
        budget: int,
        *,
        space: Reduced | None = None,
        min_size: int | None = None,
    ) -> _Fit:
        if self.method == "nmf" or self.method == "pca" or self.method == "ica":
            tolerance = _FINE if min_size is None else _ROUGH
            return self._components(rows, self.method, seed, budget, tolerance)
        space = space or self._space(rows, budget)
        found = clustered(
            space.points,
            self.method,
            self.n,
            seed=seed,
            min_size=min_size or self.min_size,
            budget_bytes=budget,
            neighbours=_neighbours(rows) if self.connected else None,
        )
        weights = found.weights
        if weights is None:
            weights = hard_weights(found.labels, len(found.centers))
        components = rows.original(space.back(found.centers))
        return _Fit(found.labels, weights, components, found.report)

    def _components(
        self, rows: Scaled, method: Parts, seed: int, budget: int, tolerance: float
    ) -> _Fit:
        if self.n is None:
            raise ParameterError(
                f"{method} needs n, the number of components: suggest_classes(features) compares "
                "some"
            )
        found = decomposed(
            rows, method, self.n, seed=seed, budget_bytes=budget, tolerance=tolerance
        )
        size = np.abs(found.scores)
        labels = np.where(size.max(axis=1) > 0, size.argmax(axis=1), NOT_CLASSIFIED)
        if method == "nmf":
            typical = [_typical(found.scores[:, k], labels == k) for k in range(self.n)]
            components = rows.original(found.components * np.array(typical)[:, None])
        else:
            components = rows.directions(found.components)
        return _Fit(labels.astype(np.int64), found.scores, components, found.report)

    # ---- the same again --------------------------------------------------------------------------
    def _reruns(self, rows: Scaled, labels: Int, budget: int, space: Reduced) -> Iterator[float]:
        """Adjusted Rand index of fits of random parts of the positions with the whole."""
        if self.connected:
            return  # a random part of the positions hardly touches
        rng = np.random.default_rng(self.seed)
        n = len(rows.positions)
        size = min(n, max(min(_PART, n // 2), 10 * (self.n or 2)))
        least = max(2, round(self.min_size * size / n))
        for k in range(self.stability_runs):
            part = np.sort(rng.choice(n, size, replace=False))
            fewer = replace(rows, positions=rows.positions[part])
            points = replace(space, points=space.points[part])
            try:
                again = self._fit(
                    fewer, self.seed + k + 1, budget, space=points, min_size=least
                ).labels
            except ParameterError:  # hdbscan may find nothing in a part
                again = np.zeros(size, np.int64)
            yield adjusted_rand(labels[part], again)


def _without_empty(fit: _Fit) -> _Fit:
    """Groups to which a position belongs; of points that are all alike some stay empty."""
    count = fit.weights.shape[1]
    sizes = np.bincount(fit.labels[fit.labels >= 0], minlength=count)
    full = np.flatnonzero(sizes)
    if len(full) == count:
        return fit
    number = np.full(count + 1, NOT_CLASSIFIED)
    number[full] = np.arange(len(full))
    report = {**fit.report, "empty classes left out": count - len(full)}
    return _Fit(number[fit.labels], fit.weights[:, full], fit.components[full], report)


def _typical(scores: Float32, mine: NDArray[np.bool_]) -> float:
    """How much of a component there is where it is the largest."""
    chosen = scores[mine] if mine.any() else scores
    return float(np.median(chosen)) or 1.0


def _neighbours(rows: Scaled) -> Any:
    """Which of the positions that are used are beside each other, sparse (n, n)."""
    from scipy.sparse import coo_array

    nx, ny = rows.features.R_shape
    number = np.full((nx, ny), -1)
    number.ravel()[rows.positions] = np.arange(len(rows.positions))
    pairs = [(number[1:], number[:-1]), (number[:, 1:], number[:, :-1])]
    a, b = (np.concatenate([pair[k].ravel() for pair in pairs]) for k in (0, 1))
    both = (a >= 0) & (b >= 0)
    a, b = a[both], b[both]
    n = len(rows.positions)
    graph = coo_array((np.ones(len(a)), (a, b)), shape=(n, n))
    return (graph + graph.T).tocsr()


def classify(
    features: Features,
    *,
    method: Method = "kmeans",
    n: int | None = None,
    axes: int | Literal["auto"] | None = "auto",
    connected: bool = False,
    min_size: int = 20,
    missing: Missing = "mask",
    stability_runs: int = 5,
    seed: int = 0,
    options: RunOptions | None = None,
) -> Classes:
    """Sort scan positions into classes by their features.

    Parameters
    ----------
    features : Features
        From `features`.
    method : str
        ``"kmeans"``: n compact groups.  ``"gmm"``: n Gaussians, each as wide along each axis as its
        positions are; weights are probabilities.  ``"agglomerative"``: Ward's, joins the two groups
        that are most alike until n are left.  ``"hdbscan"``: as many dense groups as there are;
        what lies between them is not classified.  ``"nmf"``: every position is a sum of n
        components without negative values; weights are their amounts, the label is that of the
        largest.  ``"pca"``, ``"ica"``: the same with components of either sign, uncorrelated or
        independent; the label is that of the largest score.
    n : int, optional
        Number of classes; needed except for ``"hdbscan"``.
    axes : int, "auto" or None
        Principal components of the features in which groups are looked for and silhouettes
        measured; "auto": 10, or `n` if that is more; None: the features as they are.
    connected : bool
        For ``"agglomerative"``: join only groups that touch in the scan; it then also works on
        scans that are large.
    min_size : int
        For ``"hdbscan"``: positions of the smallest group.
    missing : "mask" or "median"
        What becomes of positions with unknown features: not classified, or the median filled in.
    stability_runs : int
        Runs on random parts of the positions (at most 4000) that the classes are compared with;
        none where groups have to touch.
    seed : int
        Of all random choices: the same seed gives the same classes.
    options : RunOptions, optional
        `memory`: where a fit would take more, incremental variants are used that see the features
        part by part.

    Returns
    -------
    Classes
        ``.labels`` (Rx, Ry), class 0 the largest, −1 not classified; ``.weights`` (Rx, Ry, n);
        ``.components`` (n, n_features) in the unit of the features (for PCA and ICA: in that of
        the transformed features); ``.silhouette`` (Rx, Ry), ``.stability``, ``.report``.

    Raises
    ------
    ParameterError
        More classes than positions, no feature that varies, negative features for NMF, no `n`.
    MemoryBudgetError
        Agglomerative clustering of too many positions.

    Notes
    -----
    The fits are those of scikit-learn (Pedregosa et al., JMLR 12, 2825, 2011).  Classes that no
    position belongs to are left out, except of components.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import DataCube, features
    >>> counts = np.random.default_rng(0).poisson(5, (6, 8, 16, 16))
    >>> counts[:, 5:, 3:5, 9:12] += 20
    >>> found = classify(features(DataCube(counts.astype(np.uint16)), bin=2), n=2)
    >>> found.sizes.tolist(), found.labels[2].tolist()
    ([30, 18], [0, 0, 0, 0, 0, 1, 1, 1])
    """
    step = Classify(
        method=method,
        n=n,
        axes=axes,
        connected=connected,
        min_size=min_size,
        missing=missing,
        stability_runs=stability_runs,
        seed=seed,
    )
    return step.apply(features, options)
