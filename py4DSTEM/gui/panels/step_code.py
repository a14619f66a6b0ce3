"""One step that has not been done yet, as Python and as a recipe."""

from __future__ import annotations

from typing import Any

from py4DSTEM.gui.state.code import step_call
from py4DSTEM.gui.state.literal import Imports
from py4DSTEM.gui.state.project import Made, Project, Result

__all__ = ["code_of_step", "recipe_with"]


def code_of_step(step: Any, of: str = "", where: Any = None) -> str:
    """The lines that do a step with `cube`, or with the result of a name.

    >>> from py4DSTEM import FitLattice
    >>> print(code_of_step(FitLattice(min_peaks=5), "bragg peaks"))
    import py4DSTEM
    <BLANKLINE>
    result = py4DSTEM.fit_lattice(bragg_peaks, min_peaks=5)
    """
    imports = Imports()
    made = Made(kind=step.kind, parameters=step.parameters(), of=of, where=where)
    call = step_call(made, _identifier(of) if of else "cube", {}, imports)
    return f"{imports.text()}\n\nresult = {call}"


def recipe_with(project: Project, step: Any, name: str, of: str = "") -> str:
    """The recipe of the scan that is shown, with one more step at its end."""
    from py4DSTEM.gui.state.recipe import recipe

    scan = project.get(project.current)
    result = Result(name=scan.free_name(name), made=scan.made_by(step, of))
    longer = project.changed(scan.key, lambda s: s.replace(results=(*s.results, result)))
    return recipe(longer, scan.key)


def _identifier(name: str) -> str:
    """
    >>> _identifier("bragg 2"), _identifier("2nd")
    ('bragg_2', '_2nd')
    """
    word = "".join(c if c.isalnum() and c.isascii() else "_" for c in name)
    return word if not word[:1].isdigit() else f"_{word}"
