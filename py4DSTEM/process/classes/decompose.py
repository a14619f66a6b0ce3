"""Features as sums of a few components: NMF, PCA, ICA; and fewer features for clustering."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.errors import ParameterError
from py4DSTEM.process.classes.quiet import fitted
from py4DSTEM.process.classes.scaling import Scaled, rows_at_once

__all__ = ["Decomposition", "Parts", "Reduced", "decomposed", "reduced"]

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Parts = Literal["nmf", "pca", "ica"]
COPIES = 4
"""Tables of the size of the features that a fit in memory takes."""
_MOST_AT_ONCE = 8192
"""Positions above which NMF of some of them, refined by passes over all, is faster."""
_MOST_PASSES = 40
_SWEEPS = 3
_PASS_GAIN = 1e-4
_MAX_ITERATIONS = 1000


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Scores (n, k) and components (k, m) of scaled features: rows ≈ scores @ components + mean."""

    scores: Float32
    components: Float
    mean: Float
    report: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Reduced:
    """Positions in the space of a few principal components.

    Parameters
    ----------
    points : (n, k) float32
    axes : (k, m) float64
    mean : (m,) float64
    """

    points: Float32
    axes: Float
    mean: Float

    def back(self, points: Float) -> Float:
        """Points (j, k) as scaled features, (j, m)."""
        return np.asarray(points @ self.axes + self.mean, np.float64)


# ---- principal components ------------------------------------------------------------------------
def reduced(scaled: Scaled, count: int | None, seed: int, budget_bytes: int) -> Reduced:
    """The positions by their `count` first principal components; None: as they are."""
    n, m = scaled.shape
    if count is None or count >= m:
        return Reduced(scaled.matrix(), np.eye(m), np.zeros(m))
    found = _pca(scaled, min(count, n), seed, budget_bytes)
    return Reduced(found.scores, found.components, found.mean)


def _pca(scaled: Scaled, count: int, seed: int, budget_bytes: int) -> Decomposition:
    if COPIES * scaled.nbytes <= budget_bytes:
        from sklearn.decomposition import PCA

        model = PCA(count, random_state=seed)
        scores = model.fit_transform(scaled.matrix())
    else:
        from sklearn.decomposition import IncrementalPCA

        model = IncrementalPCA(count)
        for part in _parts(scaled, at_least=count):
            model.partial_fit(part)
        scores = np.concatenate([model.transform(part) for part in scaled.chunks()])
    signs = _signs(model.components_)
    report = {"explained variance": [float(v) for v in model.explained_variance_ratio_]}
    return Decomposition(
        np.asarray(scores * signs, np.float32),
        np.asarray(model.components_ * signs[:, None], np.float64),
        np.asarray(model.mean_, np.float64),
        report,
    )


def _parts(scaled: Scaled, at_least: int) -> Iterator[Float32]:
    """Parts of the rows, none with fewer than `at_least` (the last one takes what is left)."""
    n = scaled.shape[0]
    rows = rows_at_once(scaled.features.n)
    starts = list(range(0, n, max(rows, at_least)))
    if len(starts) > 1 and n - starts[-1] < at_least:
        starts.pop()
    for start, stop in zip(starts, [*starts[1:], n], strict=True):
        yield scaled.rows(slice(start, stop))


def _signs(components: Any) -> Float:
    """Such that the largest value of each component is positive."""
    largest = np.take_along_axis(
        components, np.abs(components).argmax(axis=1)[:, None], axis=1
    ).ravel()
    return np.where(largest < 0, -1.0, 1.0)


# ---- components ----------------------------------------------------------------------------------
def decomposed(
    scaled: Scaled,
    method: Parts,
    count: int,
    *,
    seed: int,
    budget_bytes: int,
    tolerance: float = 1e-4,
) -> Decomposition:
    """Fit `count` components to all positions; NMF until it gets better by less than `tolerance`.

    Raises
    ------
    ParameterError
        More components than positions or features; negative features for NMF.
    """
    n, m = scaled.shape
    if count > min(n, m):
        raise ParameterError(
            f"{method} finds at most {min(n, m)} components of {n} positions with {m} features, "
            f"not {count}"
        )
    if method == "pca":
        return _pca(scaled, count, seed, budget_bytes)
    if method == "ica":
        return _ica(scaled, count, seed, budget_bytes)
    return _nmf(scaled, count, seed, budget_bytes, tolerance)


def _nmf(
    scaled: Scaled, count: int, seed: int, budget_bytes: int, tolerance: float
) -> Decomposition:
    lowest = min(float(part.min()) for part in scaled.chunks())
    if lowest < 0:
        raise ParameterError(
            "NMF needs features that are not negative: use scale='block' or 'none' with values "
            "that are not, or another method"
        )
    if scaled.shape[0] <= _MOST_AT_ONCE and COPIES * scaled.nbytes <= budget_bytes:
        from sklearn.decomposition import NMF

        model = NMF(
            count, init="nndsvda", random_state=seed, max_iter=_MAX_ITERATIONS, tol=tolerance
        )
        scores, converged = fitted(lambda: model.fit_transform(scaled.matrix()))
    else:
        model, scores, converged = _nmf_in_parts(scaled, count, seed, budget_bytes, tolerance)
    # Components of sum 1: scores are how much of the features of a position they make up.
    sums = np.maximum(model.components_.sum(axis=1, dtype=np.float64), 1e-300)
    report = {"converged": converged, "iterations": int(model.n_iter_)}
    return Decomposition(
        np.asarray(scores * sums, np.float32),
        np.asarray(model.components_ / sums[:, None], np.float64),
        np.zeros(scaled.shape[1]),
        report,
    )


def _nmf_in_parts(
    scaled: Scaled, count: int, seed: int, budget_bytes: int, tolerance: float
) -> tuple[Any, Float32, bool]:
    """NMF of random positions, refined by passes over all.

    Of a pass only the sums ``Wᵀ W`` and ``Wᵀ X`` are kept, which is all that the next components
    depend on (hierarchical alternating least squares, doi:10.1587/transfun.E92.A.708).
    """
    from sklearn.decomposition import NMF

    n, m = scaled.shape
    fits = max(rows_at_once(m), budget_bytes // (COPIES * 4 * m))
    size = min(n, max(count, min(fits, _MOST_AT_ONCE)))
    chosen = np.sort(np.random.default_rng(seed).choice(n, size, replace=False))
    model = NMF(count, init="nndsvda", random_state=seed, max_iter=_MAX_ITERATIONS, tol=tolerance)
    _, converged = fitted(lambda: model.fit_transform(scaled.rows(chosen)))
    before = np.inf
    for passes in range(1, _MOST_PASSES + 1):
        model.n_iter_ = passes
        squares, products, power = np.zeros((count, count)), np.zeros((count, m)), 0.0
        for part in scaled.chunks():
            scores = _scores(model, part)
            squares += scores.T @ scores.astype(np.float64)
            products += scores.T @ part.astype(np.float64)
            power += float((part.astype(np.float64) ** 2).sum())
        h = model.components_.astype(np.float64)
        misfit = power + float((h * (squares @ h - 2 * products)).sum())
        if before - misfit <= _PASS_GAIN * abs(misfit):
            break
        model.components_ = np.ascontiguousarray(
            _better(h, squares, products), dtype=model.components_.dtype
        )
        before = misfit
    parts = [_scores(model, part) for part in scaled.chunks()]
    return model, np.concatenate(parts), converged and passes < _MOST_PASSES


def _scores(model: Any, part: Float32) -> Float32:
    """Amounts of the components in some rows."""
    scores, _ = fitted(lambda: model.transform(part))
    return np.asarray(scores, np.float32)


def _better(components: Float, squares: Float, products: Float) -> Float:
    """Components nearer to the least squares for given scores, one after the other."""
    h = components.copy()
    for _ in range(_SWEEPS):
        for k in range(len(h)):
            if squares[k, k] > 0:
                h[k] = np.maximum(h[k] + (products[k] - squares[k] @ h) / squares[k, k], 0.0)
    return h


def _ica(scaled: Scaled, count: int, seed: int, budget_bytes: int) -> Decomposition:
    """Independent components of the principal ones (FastICA)."""
    from sklearn.decomposition import FastICA

    base = _pca(scaled, count, seed, budget_bytes)
    model = FastICA(whiten="unit-variance", random_state=seed, max_iter=_MAX_ITERATIONS, tol=1e-3)
    scores, converged = fitted(lambda: model.fit_transform(base.scores.astype(np.float64)))
    components = model.mixing_.T @ base.components
    signs = _signs(components)
    mean = base.mean + model.mean_ @ base.components
    report = {"converged": converged, "iterations": int(model.n_iter_)}
    return Decomposition(
        np.asarray(scores * signs, np.float32), components * signs[:, None], mean, report
    )
