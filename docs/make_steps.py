"""Write ``steps.md``: every step with its parameters, from the models of the steps themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from py4DSTEM.gui.state.forms import FormField, fields_of
from py4DSTEM.recipe.model import all_steps
from py4DSTEM.recipe.physics import made_by, takes
from py4DSTEM.stream.fields import Leaf, leaves
from py4DSTEM.stream.operation import Operation

PAGE = Path(__file__).with_name("steps.md")
HEAD = """# Steps

<!-- Written by docs/make_steps.py from the models of the steps. -->

What a recipe may `use` ([recipes.md](recipes.md)), what `py4dstem run KIND FILE` runs
([command_line.md](command_line.md)) and what the forms of the desktop program show; functions of
Python have the same parameters. A parameter without a default must be given. `none` is no value;
in most cases the step then measures or chooses, as its description says. A detector is a table
such as `{ kind = "disk", radius = 8 }`; an array or a result is `{ file = "mask.npy" }` or
`{ result = "name" }` in a recipe and `@FILE` on the command line.
"""
GROUPS = {
    True: "Operations read every pattern of the scan; several of them share one pass.",
    False: "Analyses take the scan or what earlier steps made.",
}
OF_KIND = {
    "number": "number", "integer": "whole number", "bool": "true, false", "text": "text",
    "detector": "detector", "detectors": "name → detector", "array": "array",
    "positions": "map of scan positions", "object": "result", "json": "value",
}  # fmt: skip


def our_steps() -> dict[str, Any]:
    """Those of this package, not of others that add some."""
    return {k: c for k, c in all_steps().items() if c.__module__.startswith("py4DSTEM.")}


def page() -> str:
    """The whole text."""
    steps = our_steps()
    parts = [HEAD]
    for operations, words in GROUPS.items():
        chosen = {k: c for k, c in steps.items() if issubclass(c, Operation) is operations}
        parts.append("\n".join((words, "", ", ".join(f"[{k}](#{k})" for k in chosen) + ".", "")))
    for kind, cls in steps.items():
        parts.append("\n".join(section(kind, cls)))
    return "\n".join(parts)


def section(kind: str, cls: Any) -> Iterator[str]:
    """One step."""
    yield f"## {kind}\n"
    yield f"{_plain(inspect.getdoc(cls) or '')}\n"
    applied = " or ".join(f"`{one.__name__}`" for one in takes(cls)).replace("`Cube`", "the scan")
    made = " or ".join(f"`{one.__name__}`" for one in made_by(kind)) or "that, changed"
    yield f"Applied to {applied}; makes {made}. Version {cls.version}.\n"
    if cls.model_fields:
        yield "| parameter | values | unit | default | |"
        yield "|---|---|---|---|---|"
        yield from (row(cls, form) for form in fields_of(cls))
        yield ""
    if cls.cites:
        links = ", ".join(f"[{doi}](https://doi.org/{doi.replace('(', '%28')})"
                          for doi in cls.cites)  # fmt: skip
        yield f"Cite: {links}\n"


def row(cls: Any, form: FormField) -> str:
    """One parameter."""
    field = cls.model_fields[form.name]
    values = ", ".join(dict.fromkeys(map(_values, leaves(field.annotation, field.metadata))))
    values = " or ".join(f"`{name}`" for name in form.accepts) or values
    default = "" if form.required else f"`{_shown(form.default)}`"
    cells = (f"`{form.name}`", values, form.unit, default, _plain(form.help))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _values(leaf: Leaf) -> str:
    """
    >>> _values(Leaf("number", limits={"ge": 0, "lt": 1})), _values(Leaf("word", words=("a", "b")))
    ('number ≥ 0, < 1', '`a`, `b`')
    """
    if leaf.kind == "word":
        return ", ".join(f"`{_shown(word)}`" for word in leaf.words)
    if leaf.kind == "tuple":
        inner = ["/".join(dict.fromkeys(map(_values, part))) for part in leaf.parts]
        return f"[{', '.join(inner)}]"
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = ", ".join(f"{signs[name]} {value:g}" for name, value in leaf.limits.items())
    return f"{OF_KIND[leaf.kind]} {limits}".strip()


def _shown(value: Any) -> str:
    """A value as it is written in a recipe."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value)


def _plain(text: str) -> str:
    """On one line per paragraph, ready for Markdown."""
    paragraphs = (" ".join(part.split()) for part in text.split("\n\n"))
    return "\n\n".join(paragraphs).replace("``", "`").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
