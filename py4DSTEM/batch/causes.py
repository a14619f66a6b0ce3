"""Why a file failed: a word for tables, and a sentence."""

from __future__ import annotations

from typing import Any

from py4DSTEM import errors

__all__ = ["CAUSES", "cause_of", "described"]

CAUSES = {
    "damaged": "the file is damaged or of no known format",
    "missing": "the file is not there",
    "memory": "more memory was needed than the limit allows",
    "timeout": "it took longer than the limit allows",
    "crashed": "the process that worked on it died",
    "parameters": "the recipe does not fit this file",
    "disk": "the disk is full",
    "io": "the system could not read or write",
    "bug": "a bug",
}
TRANSIENT = frozenset({"crashed", "timeout", "io"})
"""What may go well when it is tried once more."""
_FULL = (28, 122, 27)  # ENOSPC, EDQUOT, EFBIG


def cause_of(error: BaseException) -> str:
    """One of `CAUSES`."""
    inner = error.__cause__
    number = getattr(error, "errno", None) or getattr(inner, "errno", None)
    if isinstance(error, MemoryError):
        return "memory"
    # A store that stopped before the system had to says so without a number.
    stopped = isinstance(error, errors.StoreError) and number is None
    if stopped or (isinstance(error, OSError) and number in _FULL):
        return "disk"
    table: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
        ((FileNotFoundError,), "missing"),
        ((errors.StoreError,), "io"),
        ((errors.FormatError,), "damaged"),
        ((OSError,), "io"),
        ((errors.Py4DSTEMError,), "parameters"),
    )
    return next((word for kinds, word in table if isinstance(error, kinds)), "bug")


def described(error: BaseException) -> dict[str, Any]:
    """``cause`` and ``error``, the sentence with its notes."""
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    words = str(error) or type(error).__name__
    if not isinstance(error, errors.Py4DSTEMError):
        words = f"{type(error).__name__}: {words}"
    return {"cause": cause_of(error), "error": f"{words}{notes}"}
