"""Groups of positions that are alike: k-means, mixtures, agglomerative clustering, HDBSCAN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.errors import MemoryBudgetError, ParameterError
from py4DSTEM.process.classes.quiet import fitted

__all__ = ["Clustering", "Clusters", "clustered"]

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Int = NDArray[np.int64]
Clustering = Literal["kmeans", "gmm", "agglomerative", "hdbscan"]
_RESTARTS = 10
_PARTS = 8192
"""Points above which k-means sees them in parts."""
_MOST_HDBSCAN = 200_000
_LEAST_SPREAD = 0.01
"""Least variance of a Gaussian over that of all points: positions between classes are no class."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """Labels (n,) of points, −1 for none, and how sure they are where the method says so."""

    labels: Int
    weights: Float32 | None
    centers: Float
    report: dict[str, Any]


def clustered(
    points: Float32,
    method: Clustering,
    count: int | None,
    *,
    seed: int,
    min_size: int,
    budget_bytes: int,
    neighbours: Any = None,
) -> Clusters:
    """Group points (n, k).

    Parameters
    ----------
    points : (n, k) float32
    method : "kmeans", "gmm", "agglomerative" or "hdbscan"
    count : int, optional
        Groups; HDBSCAN finds its own number.
    seed : int
    min_size : int
        For HDBSCAN: points of the smallest group.
    budget_bytes : int
        Memory that distances between all points may take.
    neighbours : sparse (n, n), optional
        For agglomerative clustering: which points may be joined.
    """
    if method == "hdbscan":
        return _hdbscan(points, min_size)
    if count is None:
        raise ParameterError(
            f"{method} needs n, the number of classes; suggest_classes(features) compares some, "
            "and method='hdbscan' finds its own"
        )
    if count > len(points):
        raise ParameterError(f"{count} classes of {len(points)} positions: ask for fewer")
    if method == "kmeans":
        return _kmeans(points, count, seed)
    if method == "gmm":
        return _mixture(points, count, seed)
    return _agglomerative(points, count, neighbours, budget_bytes)


def _kmeans(points: Float32, count: int, seed: int) -> Clusters:
    from sklearn.cluster import KMeans, MiniBatchKMeans

    if len(points) > _PARTS * _RESTARTS:
        model: Any = MiniBatchKMeans(
            count, n_init=_RESTARTS, random_state=seed, batch_size=_PARTS, max_no_improvement=20
        )
    else:
        model = KMeans(count, n_init=_RESTARTS, random_state=seed)
    labels, converged = fitted(lambda: model.fit_predict(points))
    report = {"converged": converged, "inertia": float(model.inertia_)}
    return Clusters(
        labels.astype(np.int64), None, np.asarray(model.cluster_centers_, np.float64), report
    )


def _mixture(points: Float32, count: int, seed: int) -> Clusters:
    """Gaussians with a width of their own along each axis, from the result of k-means."""
    from sklearn.mixture import GaussianMixture

    scale = float(points.std()) or 1.0
    model = GaussianMixture(
        count, covariance_type="diag", random_state=seed, max_iter=300,
        n_init=3 if len(points) <= _PARTS else 1,
        reg_covar=_LEAST_SPREAD * scale**2,
    )  # fmt: skip
    values = points.astype(np.float64)
    _, converged = fitted(lambda: model.fit(values))
    shares = model.predict_proba(values)
    report = {"converged": converged, "BIC": float(model.bic(values))}
    return Clusters(
        shares.argmax(axis=1).astype(np.int64),
        shares.astype(np.float32),
        np.asarray(model.means_, np.float64),
        report,
    )


def _agglomerative(points: Float32, count: int, neighbours: Any, budget_bytes: int) -> Clusters:
    """Ward's: the two groups are joined whose union adds least to the variance within."""
    from sklearn.cluster import AgglomerativeClustering

    n = len(points)
    needed = n * (n - 1) * 4
    if neighbours is None and needed > budget_bytes:
        raise MemoryBudgetError(
            f"distances between {n} positions take {needed / 1e9:.1f} GB and may take "
            f"{budget_bytes / 1e9:.1f} GB: join neighbours only (connected=True), use "
            "method='kmeans', crop or bin the scan, or allow more with "
            "RunOptions(memory='16 GB')"
        )
    model = AgglomerativeClustering(count, linkage="ward", connectivity=neighbours)
    # Parts of the scan that touch nowhere are joined where they are most alike, with a warning.
    labels, _ = fitted(lambda: model.fit_predict(points))
    return Clusters(labels.astype(np.int64), None, _centers(points, labels, count), {})


def _hdbscan(points: Float32, min_size: int) -> Clusters:
    from sklearn.cluster import HDBSCAN

    n = len(points)
    if n > _MOST_HDBSCAN:
        raise ParameterError(
            f"HDBSCAN compares all of {n} positions, which takes too long above {_MOST_HDBSCAN}: "
            "crop or bin the scan, or use method='kmeans'"
        )
    if min_size > n:
        raise ParameterError(f"min_size={min_size} is more than the {n} positions there are")
    model = HDBSCAN(min_cluster_size=min_size, copy=True)
    labels = model.fit_predict(points).astype(np.int64)
    count = int(labels.max(initial=-1)) + 1
    if not count:
        raise ParameterError(
            f"HDBSCAN finds no group of {min_size} positions or more: lower min_size, or use "
            "method='kmeans' with n"
        )
    weights = np.zeros((n, count), np.float32)
    inside = labels >= 0
    weights[inside, labels[inside]] = model.probabilities_[inside]
    return Clusters(labels, weights, _centers(points, labels, count), {"classes found": count})


def _centers(points: Float32, labels: NDArray[Any], count: int) -> Float:
    """Mean of the points of each group."""
    return np.stack([points[labels == k].mean(axis=0, dtype=np.float64) for k in range(count)])
