"""The driver of iterations: a solver knows one step, the driver everything around it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol, TypeVar

from py4DSTEM.errors import Cancelled, SolveError
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.progress import reporter

__all__ = ["Solution", "Solver", "Status", "Stop", "iterate"]

S = TypeVar("S")
Status = Literal["converged", "iterations", "diverged", "cancelled"]


class Solver(Protocol[S]):
    """One step of an iteration.  It holds parameters only; the state is passed in and returned."""

    def update(self, state: S, iteration: int) -> tuple[S, float]:
        """The next state, and the error of the one that came in.

        The state that came in is not needed any more and may be changed in place.
        """

    def kept(self, state: S) -> S:
        """A copy of a state, to go back to."""


@dataclass(frozen=True)
class Stop:
    """When an iteration ends.

    Parameters
    ----------
    iterations : int
    tolerance : float
        Ends where the error falls by less than this share of itself over `patience` iterations; 0:
        never.
    patience : int
    divergence : float
        Ends where the error is so many times the smallest one, or not finite.
    """

    iterations: int
    tolerance: float = 0.0
    patience: int = 5
    divergence: float = 3.0


@dataclass(frozen=True, eq=False)
class Solution(Generic[S]):
    """Where an iteration ended.

    Parameters
    ----------
    state
        The last one; where it diverged the best one before.
    status : "converged", "iterations", "diverged" or "cancelled"
    errors : tuple of float
        Before each step.
    reason : str
        Why it ended, in words.
    """

    state: S
    status: Status
    errors: tuple[float, ...] = field(default_factory=tuple)
    reason: str = ""


def iterate(
    solver: Solver[S],
    state: S,
    stop: Stop,
    options: RunOptions | None = None,
    *,
    label: str = "solve",
    before: tuple[float, ...] = (),
    watch: Callable[[int, float, S], None] | None = None,
) -> Solution[S]:
    """Take steps until something says to stop.

    Parameters
    ----------
    solver : Solver
    state
        To start from.
    stop : Stop
    options : RunOptions, optional
        Progress and cancel; a cancelled iteration that has taken a step gives what it has.
    label : str
        For progress.
    before : tuple of float
        Errors of iterations that led to `state`.
    watch : callable, optional
        Called with the number of steps taken, the error before the last, and the state.

    Raises
    ------
    SolveError
        The very first error is not finite: what is wrong is not the iteration.
    Cancelled
        Before the first step.
    """
    options = options or RunOptions()
    errors, best = list(before), solver.kept(state)
    lowest = math.inf
    with reporter(options.progress) as report:
        for number in range(stop.iterations):
            report(number, stop.iterations, label)
            if options.cancel is not None and options.cancel.is_set():
                if number == 0:
                    raise Cancelled(f"{label} was cancelled before its first iteration")
                return Solution(state, "cancelled", tuple(errors), f"after {number} iterations")
            entered = solver.kept(state)
            state, error = solver.update(state, len(errors))
            if number == 0 and not math.isfinite(error):
                raise SolveError(f"{label}: the error of the start is {error}: check the input")
            errors.append(error)
            if not error < stop.divergence * lowest:
                reason = f"the error rose from {lowest:.4g} to {error:.4g}"
                return Solution(best, "diverged", tuple(errors), reason)
            if error < lowest:
                lowest, best = error, entered
            if watch is not None:
                watch(number + 1, error, state)
            if _settled(errors, stop):
                return Solution(state, "converged", tuple(errors), f"falls by < {stop.tolerance:g}")
        report(stop.iterations, stop.iterations, label)
    return Solution(state, "iterations", tuple(errors), f"{stop.iterations} iterations")


def _settled(errors: list[float], stop: Stop) -> bool:
    if stop.tolerance <= 0 or len(errors) <= stop.patience:
        return False
    return errors[-1] > (1 - stop.tolerance) * errors[-1 - stop.patience]
