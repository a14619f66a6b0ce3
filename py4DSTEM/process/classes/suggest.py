"""How many classes there are: what speaks for each number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from py4DSTEM.core.history import History
from py4DSTEM.errors import ParameterError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.classes.classify import Classify
from py4DSTEM.process.classes.features import Features
from py4DSTEM.process.classes.scaling import Missing
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

__all__ = ["ClassNumbers", "SuggestClasses", "suggest_classes"]

Float = NDArray[np.float64]
_NEARLY = 0.02
"""Silhouettes that differ by less are taken for the same: the more stable number wins."""


@dataclass(frozen=True, eq=False)
class ClassNumbers:
    """What speaks for each number of classes.

    Parameters
    ----------
    n : (k,) int64
        Numbers of classes that were tried.
    silhouette : (k,) float64
        Mean over the positions; the larger, the better are the classes apart.
    stability : (k,) float64
        Mean adjusted Rand index with runs on parts of the positions; 1: always the same classes.
    smallest : (k,) int64
        Positions of the smallest class.
    bic : (k,) float64
        Bayesian information criterion of Gaussian mixtures (the least is best); NaN of others.
    method : str
    """

    n: NDArray[np.int64]
    silhouette: Float
    stability: Float
    smallest: NDArray[np.int64]
    bic: Float
    method: str
    history: History = field(default_factory=History)
    name: str = "numbers of classes"

    @property
    def best(self) -> int:
        """The suggestion: the largest silhouette, of nearly equal ones the most stable."""
        score = np.where(np.isfinite(self.silhouette), self.silhouette, -np.inf)
        near = np.flatnonzero(score >= score.max() - _NEARLY)
        stable = np.where(np.isfinite(self.stability), self.stability, 0.0)[near]
        return int(self.n[near[np.argmax(stable)]])

    def text(self) -> str:
        """A line per number."""
        lines = [f"{self.name} by {self.method}: {self.best} suggested"]
        for k, n in enumerate(self.n):
            bic = f", BIC {self.bic[k]:.5g}" if np.isfinite(self.bic[k]) else ""
            lines.append(
                f"{n}: silhouette {self.silhouette[k]:.3f}, stability {self.stability[k]:.3f}, "
                f"smallest class {self.smallest[k]}{bic}"
            )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<ClassNumbers {self.best} of {self.n[0]} … {self.n[-1]} by {self.method}>"


def _to_parts(found: ClassNumbers) -> dict[str, Any]:
    return {**vars(found), "history": found.history.to_dict()}


def _from_parts(parts: Mapping[str, Any]) -> ClassNumbers:
    return ClassNumbers(**{**parts, "history": History.from_dict(parts["history"])})


register_result("class-numbers", ClassNumbers, _to_parts, _from_parts)


class SuggestClasses(Analysis, kind="suggest-classes", version=1):
    """Classify with several numbers of classes, and see how well each does."""

    least: int = Field(2, ge=2, le=999, description="Smallest number of classes.")
    most: int = Field(10, ge=2, le=1000, description="Largest number of classes.")
    method: Literal["kmeans", "gmm", "agglomerative", "nmf"] = Field(
        "kmeans", description="What finds the classes; the methods are those of classify."
    )
    axes: Literal["auto"] | PositiveInt | None = Field(
        "auto", description="Principal components in which groups are looked for, as for classify."
    )
    missing: Missing = Field("mask", description="Positions with unknown features, as there.")
    stability_runs: int = Field(5, ge=0, le=100, description="Runs on parts, as there.")
    seed: int = Field(0, ge=0, lt=2**31, description="Of all random choices.")

    accepts: ClassVar[tuple[type, ...]] = (Features,)
    cites: ClassVar[tuple[str, ...]] = Classify.cites

    def apply(self, value: Any, options: RunOptions | None = None) -> ClassNumbers:
        """The numbers of one table of features."""
        self.check(value)
        if self.least > self.most:
            raise ParameterError(f"least={self.least} is more than most={self.most}")
        axes = max(10, self.most) if self.axes == "auto" else self.axes  # the same for all
        common = self.model_dump(include={"method", "missing", "stability_runs", "seed"})
        found = [
            Classify(n=n, axes=axes, **common).apply(value, options)
            for n in range(self.least, self.most + 1)
        ]
        nan = float("nan")
        stability = [nan if c.stability is None else c.stability for c in found]
        return ClassNumbers(
            n=np.arange(self.least, self.most + 1),
            silhouette=np.array([c.mean_silhouette for c in found]),
            stability=np.array(stability, np.float64),
            smallest=np.array([c.sizes.min() for c in found], np.int64),
            bic=np.array([c.report.get("BIC", nan) for c in found], np.float64),
            method=self.method,
            history=self.history(value.history),
        )


def suggest_classes(
    features: Features,
    numbers: Sequence[int] = (2, 10),
    *,
    method: Literal["kmeans", "gmm", "agglomerative", "nmf"] = "kmeans",
    axes: int | Literal["auto"] | None = "auto",
    missing: Missing = "mask",
    stability_runs: int = 5,
    seed: int = 0,
    options: RunOptions | None = None,
) -> ClassNumbers:
    """Classify with several numbers of classes, and see how well each does.

    Parameters
    ----------
    features : Features
    numbers : (int, int)
        Smallest and largest number of classes.
    method, axes, missing, stability_runs, seed, options
        As for `classify`.

    Returns
    -------
    ClassNumbers
        ``.silhouette``, ``.stability``, ``.smallest``, ``.bic`` for each number, ``.best``.

    Notes
    -----
    The silhouette (doi:10.1016/0377-0427(87)90125-7) says how well classes are apart, the stability
    whether they are the same in parts of the data.  Both are no proof: look at the class patterns.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import features
    >>> places = np.repeat([0.0, 5.0, 9.0], 20) + np.random.default_rng(0).normal(0, 0.1, 60)
    >>> suggest_classes(features(places.reshape(6, 10)), (2, 5)).best
    3
    """
    if len(numbers) != 2:
        raise ParameterError(f"numbers are the smallest and the largest, not {tuple(numbers)}")
    step = SuggestClasses(
        least=numbers[0],
        most=numbers[1],
        method=method,
        axes=axes,
        missing=missing,
        stability_runs=stability_runs,
        seed=seed,
    )
    return step.apply(features, options)
