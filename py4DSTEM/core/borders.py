"""The borders of a set of pixels, as closed lines."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

__all__ = ["pixel_borders"]

Float = NDArray[np.float64]
MOST_EDGES = 100_000
"""Sets with longer borders are outlined block by block, which the eye cannot tell apart."""


def pixel_borders(chosen: NDArray[np.bool_]) -> list[Float]:
    """Closed lines around the pixels of a set, along their edges.

    Parameters
    ----------
    chosen : (n0, n1) bool

    Returns
    -------
    list of (n, 2) float64
        Corners of each line in pixel coordinates, the first repeated at the end.  Lines around
        holes run the other way.  Where pixels touch only at a corner, lines meet there.

    Examples
    --------
    >>> import numpy as np
    >>> [line.tolist() for line in pixel_borders(np.array([[True, True]]))]
    [[[-0.5, -0.5], [-0.5, 1.5], [0.5, 1.5], [0.5, -0.5], [-0.5, -0.5]]]
    """
    block = 1
    starts, stops = _edges(chosen)
    while len(starts) > MOST_EDGES:
        block, chosen = block * 2, _halved(chosen)
        starts, stops = _edges(chosen)
    return [_corners(line) * block - 0.5 for line in _lines(starts, stops)]


def _halved(chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Blocks of 2 x 2 pixels of which most are chosen."""
    wide = np.pad(chosen, [(0, n % 2) for n in chosen.shape]).astype(np.uint8)
    blocks = wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2]
    kept: NDArray[np.bool_] = blocks >= 2
    return kept


def _edges(chosen: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Corners where the edges of the border start and stop, (n, 2), the set to their right."""
    wide = np.pad(chosen, 1)
    core = wide[1:-1, 1:-1]
    sides = (
        (wide[:-2, 1:-1], (0, 0), (0, 1)),
        (wide[1:-1, 2:], (0, 1), (1, 1)),
        (wide[2:, 1:-1], (1, 1), (1, 0)),
        (wide[1:-1, :-2], (1, 0), (0, 0)),
    )
    found = [(np.argwhere(core & ~beside), start, stop) for beside, start, stop in sides]
    starts = np.concatenate([at + np.array(start) for at, start, _ in found])
    stops = np.concatenate([at + np.array(stop) for at, _, stop in found])
    return starts, stops


def _lines(starts: NDArray[np.int64], stops: NDArray[np.int64]) -> list[Float]:
    onward = defaultdict(list)
    for start, stop in zip(map(tuple, starts.tolist()), map(tuple, stops.tolist()), strict=True):
        onward[start].append(stop)
    lines = []
    while onward:
        first = here = next(iter(onward))
        line = [first]
        while True:
            following = onward[here]
            here = following.pop()
            if not following:
                del onward[line[-1]]
            line.append(here)
            if here == first:
                break
        lines.append(np.array(line, dtype=np.float64))
    return lines


def _corners(line: Float) -> Float:
    """A closed line without the points at which it runs straight on."""
    steps = np.diff(line, axis=0)
    turns = (steps != np.roll(steps, 1, axis=0)).any(axis=1)
    kept = line[:-1][turns]
    return np.concatenate([kept, kept[:1]])
