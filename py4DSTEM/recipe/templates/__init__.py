"""Recipes to begin with."""

from __future__ import annotations

from pathlib import Path

from py4DSTEM.errors import ParameterError

__all__ = ["template_path", "templates"]

_FOLDER = Path(__file__).parent


def templates() -> tuple[str, ...]:
    """Their names.

    >>> templates()
    ('classes', 'first_look', 'minimal', 'orientation', 'phase', 'phases', 'strain')
    """
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def template_path(name: str) -> Path:
    """The file of a template.

    Raises
    ------
    ParameterError
        There is none of the name.
    """
    if name not in templates():
        raise ParameterError(f"no template {name!r}: one of {', '.join(templates())}")
    return _FOLDER / f"{name}.toml"
