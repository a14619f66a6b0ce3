"""The science: operations that see each pattern once, analyses, and what is built on them."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module, metadata
from typing import TYPE_CHECKING

from py4DSTEM.io.store.schema import when_unknown

if TYPE_CHECKING:
    from py4DSTEM.stream.analysis import Analysis
    from py4DSTEM.stream.operation import Operation

__all__ = ["load_all", "load_analyses", "load_operations", "load_steps"]

ENTRY_POINTS = "py4dstem.operations"


def load_all() -> None:
    """Import every module of this room, and those that other packages add by an entry point."""
    for module in pkgutil.walk_packages(__path__, f"{__name__}."):
        import_module(module.name)
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        entry.load()


def load_operations() -> Mapping[str, type[Operation]]:
    """All operations by kind: ours, and those that other packages add by an entry point."""
    from py4DSTEM.stream.operation import registered

    load_all()
    return registered()


def load_analyses() -> Mapping[str, type[Analysis]]:
    """All analyses by kind: ours, and those that other packages add by an entry point."""
    from py4DSTEM.stream.analysis import analyses

    load_all()
    return analyses()


def load_steps() -> dict[str, type[Operation] | type[Analysis]]:
    """All operations and analyses by kind, in alphabetical order."""
    steps: dict[str, type[Operation] | type[Analysis]] = {**load_operations(), **load_analyses()}
    return dict(sorted(steps.items()))


# A file may hold a result whose module nobody has asked for yet.
when_unknown(load_all)
