"""Which of many names a few letters mean; no Qt."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ranked", "score"]


def ranked(text: str, names: Mapping[str, str]) -> list[str]:
    """Keys of the names that hold all letters of `text` in their order, the best first.

    >>> ranked("pwin", {"a": "Power in window", "b": "Help", "c": "Print window"})
    ['c', 'a']
    """
    scores = {key: score(text, name) for key, name in names.items()}
    found = [key for key in names if scores[key] is not None]
    return sorted(found, key=lambda key: scores[key] or 0.0)


def score(text: str, name: str) -> float | None:
    """How far `text` is from `name`; None where letters are missing, 0 where nothing is asked.

    Letters that follow each other, or begin a word, cost less; so do early ones.

    >>> score("bf", "Bright field") < score("bf", "Brief"), score("x", "Brief")
    (True, None)
    """
    wanted, given = text.lower().replace(" ", ""), name.lower()
    ends = {-2: 0.0}  # cost of the best way to each place of the last letter
    for letter in wanted:
        ends = {
            at: min(cost + _cost(given, at, before) for before, cost in ends.items() if before < at)
            for at in range(len(given))
            if given[at] == letter and any(before < at for before in ends)
        }
    return min(ends.values()) + 0.001 * len(given) if ends else None


def _cost(name: str, at: int, last: int) -> float:
    if at == last + 1:
        return 0.0
    begins = at == 0 or not name[at - 1].isalnum()
    return (0.5 if begins else 2.0) + 0.01 * at
