"""Parameters of a reconstruction, searched for by trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.cube import Cube
from py4DSTEM.core.history import History
from py4DSTEM.errors import DependencyMissing, ParameterError, SolveError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.phase.ptychography.reconstruct import Ptychography
from py4DSTEM.process.phase.ptychography.result import PtychographyResult
from py4DSTEM.stream.options import RunOptions

__all__ = ["PtychographyTuning", "tune_ptychography"]

Range = tuple[float, float] | Sequence[Any]
_FAILED = 10.0
"""Times the noise level: score of trials that cannot be run, such as with no overlap."""


@dataclass(frozen=True, eq=False)
class PtychographyTuning:
    """Trials, and the best of them.

    Parameters
    ----------
    values : mapping of str to (n,) array
        What was tried.
    scores : (n,) float64
        Error of each trial over that of counting noise, or what the caller measured; small is good.
    best : mapping
        Values of the best trial, to be given to `ptychography`.
    score : str
        What the scores are.
    """

    values: Mapping[str, NDArray[Any]]
    scores: NDArray[np.float64]
    best: Mapping[str, Any]
    score: str = "error / counting noise"
    history: History = field(default_factory=History)
    name: str = "tuning of ptychography"

    def text(self) -> str:
        """A few lines for a report."""
        words = ", ".join(
            f"{name} = {value:.4g}" if isinstance(value, float) else f"{name} = {value}"
            for name, value in self.best.items()
        )
        lowest = f"{np.nanmin(self.scores):.4g} {self.score}"
        return f"best of {len(self.scores)} trials ({lowest}): {words}"

    def __repr__(self) -> str:
        return f"<PtychographyTuning: {self.text()}>"


def tune_ptychography(
    cube: Cube,
    space: Mapping[str, Range],
    trials: int = 30,
    *,
    score: Callable[[PtychographyResult], float] | None = None,
    seed: int = 0,
    options: RunOptions | None = None,
    **fixed: Any,
) -> PtychographyTuning:
    """Search parameters of `ptychography` by trial, with a model of what earlier trials gave.

    Parameters
    ----------
    cube : DataCube
        A part of the scan saves time: ``cube.crop(((0, 16), (0, 16)))`` with ``iterations=6``
        does for defocus and rotation.
    space : mapping
        Name of a parameter → (low, high) of numbers, whole ones if both are, or a list of choices:
        ``{"defocus_A": (50.0, 200.0), "modes": (1, 3), "flip": [False, True]}``.
    trials : int
    score : callable, optional
        Takes a result, gives what shall be small; None: the last error over counting noise.
    seed : int
        The same seed tries the same values.
    options : RunOptions, optional
        Workers; a set cancel ends after the trial that runs.
    **fixed
        Parameters of every trial: ``iterations=10, rotation_rad=0.4``.

    Returns
    -------
    PtychographyTuning
        ``ptychography(cube, **tuned.best, **fixed)`` repeats the best.

    Raises
    ------
    DependencyMissing
        Without optuna: ``pip install py4DSTEM[tune]``.
    ParameterError
        A parameter that ptychography does not have, or a range without values; or no trial could
        be run.

    Notes
    -----
    Tree-structured Parzen estimators (doi:10.1145/3292500.3330701).  Small errors are no proof:
    more modes or slices always fit better; compare halves of the data (`judge_ptychography`).

    Examples
    --------
    >>> from py4DSTEM import simulate
    >>> scan = simulate.phase_object((8, 8), (48, 48), seed=1)
    >>> tuned = tune_ptychography(
    ...     scan.cube, {"defocus_A": (40.0, 160.0)}, 3, iterations=2, rotation_rad=0.3
    ... )  # doctest: +SKIP
    """
    _check(space, trials, fixed)
    study = _study(seed)
    results: list[tuple[dict[str, Any], float]] = []
    reasons = []
    for _ in range(trials):
        if options is not None and options.cancel is not None and options.cancel.is_set():
            break
        trial = study.ask()
        values = {name: _suggested(trial, name, given) for name, given in space.items()}
        try:
            found = Ptychography(**fixed, **values).apply(cube, options)
            value = found.errors[-1] / found.expected_error if score is None else score(found)
        except (ParameterError, SolveError) as problem:
            value = _FAILED
            reasons.append(str(problem))
        results.append((values, float(value)))
        study.tell(trial, float(value) if np.isfinite(value) else _FAILED)
    if len(reasons) == len(results):
        raise ParameterError(f"no trial could be run: {reasons[0] if reasons else 'cancelled'}")
    return _tuned(cube, space, results, fixed, named=score is not None)


def _study(seed: int) -> Any:
    try:
        import optuna
    except ImportError:
        raise DependencyMissing("optuna", "the search of parameters", extra="tune") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed)
    return optuna.create_study(direction="minimize", sampler=sampler)


def _check(space: Mapping[str, Range], trials: int, fixed: Mapping[str, Any]) -> None:
    known = Ptychography.model_fields
    for name in (*space, *fixed):
        if name not in known:
            raise ParameterError(f"ptychography has no parameter {name!r}: {', '.join(known)}")
    twice = sorted(space.keys() & fixed.keys())
    if twice:
        raise ParameterError(f"{twice[0]!r} is searched for and fixed")
    if not space or trials < 1:
        raise ParameterError("a search needs parameters and at least one trial")
    for name, given in space.items():
        if len(given) == 0 or (isinstance(given, tuple) and len(given) != 2):
            raise ParameterError(f"{name}: (low, high), or a list of choices, not {given!r}")
        if isinstance(given, tuple) and not given[0] < given[1]:
            raise ParameterError(f"{name}: low is below high, not {given!r}")


def _suggested(trial: Any, name: str, given: Range) -> Any:
    if not isinstance(given, tuple):
        return trial.suggest_categorical(name, list(given))
    low, high = given
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high)
    return trial.suggest_float(name, float(low), float(high))


def _tuned(
    cube: Cube,
    space: Mapping[str, Range],
    results: list[tuple[dict[str, Any], float]],
    fixed: Mapping[str, Any],
    *,
    named: bool,
) -> PtychographyTuning:
    scores = np.array([value for _, value in results], np.float64)
    best, _ = results[int(np.nanargmin(scores))]
    values = {name: np.array([tried[name] for tried, _ in results]) for name in space}
    plain = {name: list(given) for name, given in space.items()}
    history = cube.history.then("tune-ptychography", {"space": plain, "fixed": dict(fixed)})
    kind = {"score": "score"} if named else {}
    return PtychographyTuning(values, scores, best, history=history, **kind)


def _to_parts(tuned: PtychographyTuning) -> dict[str, Any]:
    return {
        "values": dict(tuned.values),
        "best": dict(tuned.best),
        "scores": tuned.scores,
        "score": tuned.score,
        "name": tuned.name,
        "history": tuned.history.to_dict(),
    }


def _from_parts(parts: Mapping[str, Any]) -> PtychographyTuning:
    return PtychographyTuning(**{**parts, "history": History.from_dict(parts["history"])})


register_result("ptychography-tuning", PtychographyTuning, _to_parts, _from_parts)
