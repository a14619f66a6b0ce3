"""The project as a Jupyter notebook: one cell for each part of the script, and its pictures."""

from __future__ import annotations

from typing import Any

from py4DSTEM.errors import DependencyMissing
from py4DSTEM.gui.state.code import Part, parts
from py4DSTEM.gui.state.project import Project

__all__ = ["notebook"]

_SHOWN_AS_THEY_ARE = ("image", "pattern")


def notebook(project: Project, key: str) -> Any:
    """A notebook that makes again what is shown of a scan, and all its results.

    Parameters
    ----------
    project : Project
    key : str
        Of the scan.

    Returns
    -------
    nbformat.NotebookNode
        ``nbformat.write(node, path)`` saves it.

    Raises
    ------
    DependencyMissing
        nbformat is not installed.
    ParameterError
        The scan is only in memory: no program can open it.
    """
    try:
        from nbformat import v4
    except ImportError:
        raise DependencyMissing("nbformat", "a notebook") from None
    head, *rest = parts(project, key)
    cells = [v4.new_markdown_cell(f"# {_plain(head.title)}"), v4.new_code_cell(head.code)]
    for part in rest:
        cells += _cells(part, v4)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    node = v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    for number, cell in enumerate(node.cells):  # the same project gives the same file
        cell["id"] = f"cell-{number}"
    return node


def _cells(part: Part, v4: Any) -> list[Any]:
    text = f"## {_plain(part.title)}" + (f"\n\n{part.text}" if part.text else "")
    return [v4.new_markdown_cell(text), v4.new_code_cell(part.code + _look(part))]


def _look(part: Part) -> str:
    """The last line of a cell: what it shows."""
    if not part.shows:
        return ""
    name = part.shows[-1]
    call = f"py4DSTEM.show({name});" if name in _SHOWN_AS_THEY_ARE else name
    return f"\n{call}"


def _plain(text: str) -> str:
    """Names may hold anything; in a heading they are nothing but text."""
    flat = " ".join(text.split())
    escaped = "".join(f"\\{c}" if c in "\\`*_{}[]()#!|~$" else c for c in flat)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
