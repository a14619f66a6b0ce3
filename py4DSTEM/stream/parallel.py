"""A few threads that stay, for work of a few milliseconds that must not wait for new ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from py4DSTEM.stream.options import RunOptions

__all__ = ["in_threads", "parts_of"]

T = TypeVar("T")
R = TypeVar("R")

LEAST = 2048
"""Positions that are worth a thread of their own."""


def in_threads(work: Callable[[T], R], parts: Sequence[T]) -> list[R]:
    """``[work(part) for part in parts]``, the first in this thread and the others beside it.

    The work should release the interpreter (compiled kernels do) and must not call `in_threads`.

    Examples
    --------
    >>> in_threads(abs, [-1, 2])
    [1, 2]
    """
    if len(parts) < 2:
        return [work(part) for part in parts]
    futures = [_pool(os.getpid()).submit(work, part) for part in parts[1:]]
    try:
        first = work(parts[0])
    finally:
        # Nobody may go on while others still write into what they share.
        rest = [future.exception() for future in futures]
    for error in rest:
        if error is not None:
            raise error
    return [first, *(future.result() for future in futures)]


def parts_of(count: int, align: int = LEAST) -> list[slice]:
    """Positions ``0 … count - 1`` in a part for each core, cut at multiples of `align`.

    Examples
    --------
    >>> parts_of(100)
    [slice(0, 100, None)]
    """
    shares = max(1, min(RunOptions().worker_count(), -(-count // align)))
    step = -(-count // shares // align) * align
    return [slice(a, min(a + step, count)) for a in range(0, count, step)] if count else []


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The threads of one process: a forked child has none of its parent's."""
    return ThreadPoolExecutor(max(1, RunOptions().worker_count() - 1), "live-py4DSTEM")
