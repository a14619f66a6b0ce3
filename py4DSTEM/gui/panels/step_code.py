"""One step as Python."""

from __future__ import annotations

from typing import Any

from py4DSTEM.gui.state.forms import defaults
from py4DSTEM.stream.analysis import Analysis

__all__ = ["code_of_step"]


def code_of_step(step: Any, of: str = "") -> str:
    """The lines that run a step on `scan`, or on the result of a name.

    >>> from py4DSTEM import FitLattice
    >>> print(code_of_step(FitLattice(min_peaks=5), "bragg peaks"))
    from py4DSTEM.process.bragg.lattice import FitLattice
    <BLANKLINE>
    step = FitLattice(min_peaks=5)
    result = step.apply(bragg_peaks)
    """
    cls = type(step)
    plain, usual = step.parameters(), cls.model_construct(**defaults(cls)).parameters()
    changed = {k: v for k, v in plain.items() if k not in usual or usual[k] != v}
    given = ", ".join(f"{name}={value!r}" for name, value in changed.items())
    source = _identifier(of) if of else "scan"
    lines = [f"from {cls.__module__} import {cls.__qualname__}", ""]
    made = f"step = {cls.__qualname__}({given})"
    if isinstance(step, Analysis):
        return "\n".join([*lines, made, f"result = step.apply({source})"])
    return "\n".join(["import py4DSTEM", *lines, made, f"result = py4DSTEM.run(step, {source})"])


def _identifier(name: str) -> str:
    """
    >>> _identifier("bragg 2"), _identifier("2nd")
    ('bragg_2', '_2nd')
    """
    word = "".join(c if c.isalnum() and c.isascii() else "_" for c in name)
    return word if not word[:1].isdigit() else f"_{word}"
