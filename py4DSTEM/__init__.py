"""4D-STEM analysis: read, image, calibrate, map and reconstruct scanned diffraction.

The public names are listed, with types, in ``__init__.pyi``; each is imported when first used, so
that ``import py4DSTEM`` costs next to nothing.
"""

from __future__ import annotations

import ast
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "1.0.0.dev0"


@cache
def _public() -> dict[str, str]:
    """Name → module, from the stub beside this file."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {
        alias.asname or alias.name: node.module or "" for node in imports for alias in node.names
    }


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return sorted(_public())
    module = None if name.startswith("__") else _public().get(name)
    if module is None:
        raise AttributeError(f"module 'py4DSTEM' has no attribute {name!r}")
    if module == __name__:
        value: Any = import_module(f"{module}.{name}")
    else:
        value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*_public(), "__version__"})
