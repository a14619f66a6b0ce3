"""What is written down about a result, besides the result: how it came about, and its numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from py4DSTEM.core.history import History
from py4DSTEM.report.quantities import numbers_of

__all__ = ["facts", "history_in", "numbers_in", "stored_numbers"]


def facts(value: Any) -> dict[str, Any]:
    """Entries of ``step.json`` that come from a result itself, as plain JSON values.

    Parameters
    ----------
    value : object
        Any result.

    Returns
    -------
    dict
        ``numbers`` (None where there is no finite one), ``history`` and ``seeds`` (kind of a step
        → its seed).

    Examples
    --------
    >>> from py4DSTEM import ArrayResult, History
    >>> import numpy as np
    >>> made = ArrayResult(np.zeros(3), history=History().then("restore-strain", {"seed": 7}))
    >>> facts(made)["seeds"], facts(made)["history"]["steps"][0]["kind"]
    ({'restore-strain': 7}, 'restore-strain')
    """
    history = getattr(value, "history", None)
    if not isinstance(history, History):
        history = History()
    numbers = {n: v if math.isfinite(v) else None for n, v in numbers_of(value).items()}
    return {"numbers": numbers, "history": history.to_dict(), "seeds": _seeds(history)}


def _seeds(history: History) -> dict[str, Any]:
    return {
        step.kind: value
        for step in history.steps
        for name, value in step.parameters.items()
        if name in ("seed", "random_state") and value is not None
    }


def history_in(record: Mapping[str, Any]) -> History:
    """The history in a ``step.json``; empty where it holds none."""
    found = record.get("history")
    return History.from_dict(found) if isinstance(found, Mapping) else History()


def numbers_in(record: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers in a ``step.json``."""
    found = record.get("numbers")
    return dict(found) if isinstance(found, Mapping) else {}


def stored_numbers(folders: Mapping[str, Path]) -> dict[str, float | None]:
    """``"step.quantity"`` → number, from the records in the folders of steps.

    No result is read.  Steps without a record that can be read have no numbers.
    """
    found: dict[str, float | None] = {}
    for step, folder in folders.items():
        try:
            record = json.loads((folder / "step.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        found |= {f"{step}.{name}": value for name, value in numbers_in(record).items()}
    return found
