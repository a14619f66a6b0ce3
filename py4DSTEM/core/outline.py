"""Outlines of detectors and selections, their handles, and what dragging them gives.

>>> from py4DSTEM.core.detector import Disk
>>> moved(Disk(3, center=(5, 6)), "radius", (5, 10))
Disk(radius=4.0, center=(5.0, 6.0), units='px', kind='disk')
"""

from __future__ import annotations

from py4DSTEM.core.edges import contains, outline
from py4DSTEM.core.handles import (
    grown,
    handles,
    moved,
    shifted,
    with_vertex,
    without_vertex,
)

__all__ = [
    "contains",
    "grown",
    "handles",
    "moved",
    "outline",
    "shifted",
    "with_vertex",
    "without_vertex",
]
