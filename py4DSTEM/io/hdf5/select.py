"""Basic indexing keys as one arithmetic range per axis."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import SupportsIndex, TypeAlias

__all__ = ["Key", "Selection", "Span", "parse_key"]

_Item: TypeAlias = "SupportsIndex | slice | EllipsisType"
Key: TypeAlias = "_Item | tuple[_Item, ...]"


@dataclass(frozen=True, slots=True)
class Span:
    """The positions ``start, start + step, …`` of one axis; the step is positive."""

    start: int
    step: int
    count: int

    @property
    def stop(self) -> int:
        """One beyond the last position."""
        return self.start + self.step * (self.count - 1) + 1 if self.count else self.start

    @property
    def as_slice(self) -> slice:
        """The same positions as a slice."""
        return slice(self.start, self.stop, self.step)

    def within(self, low: int, high: int) -> tuple[slice, slice] | None:
        """The part inside ``[low, high)``: where in that block, where in the result."""
        first = max(0, -((self.start - low) // self.step))
        last = min(self.count, -((self.start - high) // self.step))
        if first >= last:
            return None
        begin = self.start + first * self.step - low
        end = begin + (last - 1 - first) * self.step + 1
        return slice(begin, end, self.step), slice(first, last)


@dataclass(frozen=True, slots=True)
class Selection:
    """What a key asks for.

    Attributes
    ----------
    spans : tuple of Span
        One per axis, ascending.
    finish : tuple of (int or slice)
        Applied to the array of all spans: drops integer axes, reverses negative steps.
    """

    spans: tuple[Span, ...]
    finish: tuple[int | slice, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array of all spans, before `finish`."""
        return tuple(s.count for s in self.spans)


def parse_key(key: Key, shape: Sequence[int]) -> Selection:
    """Translate a key of integers, slices and at most one ellipsis.

    Raises
    ------
    IndexError
        Out of bounds, too many indices, or something other than basic indexing.
    """
    parts = [_axis(item, n) for item, n in zip(_expand(key, len(shape)), shape, strict=True)]
    return Selection(tuple(s for s, _ in parts), tuple(f for _, f in parts))


def _expand(key: Key, ndim: int) -> list[SupportsIndex | slice]:
    """One item per axis."""
    items = list(key) if isinstance(key, tuple) else [key]
    dots = [k for k, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can have only one ellipsis")
    if len(items) - len(dots) > ndim:
        raise IndexError(f"{len(items) - len(dots)} indices for {ndim} axes")
    at = dots[0] if dots else len(items)
    missing = ndim - (len(items) - len(dots))
    full = items[:at] + [slice(None)] * missing + items[at + 1 :]
    return [item for item in full if not isinstance(item, EllipsisType)]


def _axis(item: SupportsIndex | slice, n: int) -> tuple[Span, int | slice]:
    if isinstance(item, slice):
        return _slice(item, n)
    try:
        i = operator.index(item)
    except TypeError:
        kind = type(item).__name__
        raise IndexError(f"an index is an integer, a slice or '...', not {kind}") from None
    if isinstance(item, bool) or not -n <= i < n:
        raise IndexError(f"index {item} is out of bounds for an axis of {n}")
    return Span(i % n, 1, 1), 0


def _slice(item: slice, n: int) -> tuple[Span, slice]:
    positions = range(*item.indices(n))
    if not positions:
        return Span(0, 1, 0), slice(None)
    if positions.step > 0:
        return Span(positions[0], positions.step, len(positions)), slice(None)
    return Span(positions[-1], -positions.step, len(positions)), slice(None, None, -1)
