"""Weighted sums over a detector-major cache, taken apart into what is cheapest to read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.stream.detector_major import DetectorMajor
from py4DSTEM.stream.parallel import in_threads, parts_of

__all__ = ["Known", "Shells", "Term", "Way"]

Float = NDArray[np.float64]
EPSILON = float(np.finfo(np.float64).eps)
_BLOCK = 8  # columns from one sampled sum of a row to the next


@dataclass(frozen=True, eq=False)
class Term:
    """``Σ_m weights[k, m] · table[rows[m]]``: a weighted sum of rows of a table (P, n).

    ``top`` is the largest value of the table where its rounding matters, else 0.
    """

    table: NDArray[Any]
    rows: NDArray[np.intp]
    weights: Float
    top: float = 0.0

    @classmethod
    def of(cls, table: NDArray[Any], weights: Float, top: float = 0.0) -> Term:
        """The term of weights (K, P), without the rows that weigh nothing."""
        rows = np.flatnonzero(weights.any(axis=0))
        return cls(table, rows, np.ascontiguousarray(weights[:, rows]), top)

    @property
    def cost(self) -> float:
        """Bytes read for every position, and what it takes to use them several times."""
        repeats = np.count_nonzero(self.weights) / max(1, len(self.rows))
        return float(len(self.rows) * (self.table.itemsize + max(0.0, repeats - 1.0)))

    @property
    def error(self) -> float:
        """What rounding may change, at most; whole weights of whole numbers are exact."""
        if not self.top or not self.rows.size:
            return 0.0
        return EPSILON * self.top * float(np.abs(self.weights).sum(axis=1).max())


@dataclass(frozen=True, eq=False)
class Known:
    """Images (K, n) that belong to weights (K, P), and how far rounding may have moved them."""

    weights: Float
    images: Float
    error: float = 0.0


@dataclass(frozen=True, eq=False)
class Way:
    """One way to an image: what is already known, and terms to add."""

    terms: tuple[Term, ...]
    base: Known | None = None

    @property
    def cost(self) -> float:
        """Bytes for every position."""
        images = 0 if self.base is None else 24 * len(self.base.weights)
        return images + sum(term.cost for term in self.terms)

    def images(self, K: int, n: int) -> tuple[Float, float]:
        """Images (K, n) and a bound of their rounding, beyond that of a plain sum."""
        from py4DSTEM.kernels import compiled

        add = compiled().add_weighted
        out = np.empty((K, n))

        def work(part: slice) -> None:
            out[:, part] = 0
            for term in self.terms:
                if term.rows.size:
                    add(term.table, term.rows, term.weights, out, part)
            if self.base is not None:
                with np.errstate(invalid="ignore", over="ignore"):
                    out[:, part] += self.base.images[:, part]

        in_threads(work, parts_of(n))
        error = sum(term.error for term in self.terms)
        if self.base is not None:
            error += self.base.error + EPSILON * float(np.abs(self.base.images).max(initial=0))
        return out, error


# ---- sampled sums along rows ---------------------------------------------------------------------
def by_rows(cache: DetectorMajor, weights: Float, top: float) -> Way | None:
    """Blocks of 8 columns of one weight by two sums, other pixels one by one."""
    if cache.prefix is None:
        return None
    K, (qx, qy) = len(weights), cache.Q_shape
    steps = cache.prefix.shape[1]
    blocks = np.zeros((K, qx, steps * _BLOCK))
    blocks[..., :qy] = weights.reshape(K, qx, qy)
    value = _prevailing(blocks.reshape(K, qx, steps, _BLOCK))
    rest = blocks - np.repeat(value, _BLOCK, axis=2)
    # Σ_b v_b (P_b - P_(b-1)) = Σ_b P_b (v_b - v_(b+1))
    factors = value - np.concatenate([value[..., 1:], np.zeros((K, qx, 1))], axis=2)
    n = cache.data.shape[2]
    sums = Term.of(cache.prefix.reshape(-1, n), factors.reshape(K, -1), top)
    pixels = np.ascontiguousarray(rest[..., :qy]).reshape(K, -1)
    return Way((sums, Term.of(cache.data.reshape(-1, n), pixels)))


def _prevailing(blocks: Float) -> Float:
    """The weight that four or more of the eight have, (…, 8) to (…); 0 where there is none."""
    edges = blocks[..., 2], blocks[..., 5]
    votes = [np.count_nonzero(blocks == edge[..., None], axis=-1) for edge in edges]
    best = np.where(votes[0] >= votes[1], *edges)
    prevailing: Float = np.where(np.maximum(*votes) >= 4, best, 0.0)
    return prevailing


# ---- shells about a centre -----------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Shells:
    """Sums over all pixels nearer to a centre than a radius, for radii half a pixel apart.

    Parameters
    ----------
    sums : (S, n) float64
        Cumulative over the shells.
    shell : (P,) intp
        Which one each pixel belongs to.
    """

    sums: Float
    shell: NDArray[np.intp]
    top: float

    def way(self, cache: DetectorMajor, weights: Float) -> Way:
        """Whole shells of one weight by two sums, other pixels one by one."""
        K = len(weights)
        value = np.stack([self._prevailing(w) for w in weights])
        rest = weights - value[:, self.shell]
        factors = value - np.concatenate([value[:, 1:], np.zeros((K, 1))], axis=1)
        return Way((Term.of(self.sums, factors, self.top), Term.of(_flat(cache), rest)))

    def _prevailing(self, weights: Float) -> Float:
        """The commonest weight of all pixels for shells that mostly have it, else 0."""
        common = _commonest(weights)
        count = np.bincount(self.shell, minlength=len(self.sums))
        have = np.bincount(self.shell, weights == common, minlength=len(self.sums))
        prevailing: Float = np.where(2 * have > count, common, 0.0)
        return prevailing


def shell_numbers(Q_shape: tuple[int, int], center: tuple[float, float]) -> NDArray[np.intp]:
    """Shell of every pixel, (P,): twice the distance from the centre, rounded down."""
    i, j = np.indices(Q_shape, dtype=np.float64)
    return (2 * np.hypot(i - center[0], j - center[1])).astype(np.intp).ravel()


def _commonest(weights: Float) -> float:
    values, counts = np.unique(weights[weights != 0], return_counts=True)
    return float(values[counts.argmax()]) if values.size else 0.0


def _flat(cache: DetectorMajor) -> NDArray[Any]:
    return cache.data.reshape(-1, cache.data.shape[2])
