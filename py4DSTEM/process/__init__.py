"""The science: operations that see each pattern once, and what is built on them."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module, metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py4DSTEM.stream.operation import Operation

__all__ = ["load_operations"]

ENTRY_POINTS = "py4dstem.operations"


def load_operations() -> Mapping[str, type[Operation]]:
    """All operations by kind: ours, and those that other packages add by an entry point."""
    from py4DSTEM.stream.operation import registered

    for module in pkgutil.walk_packages(__path__, f"{__name__}."):
        import_module(module.name)
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        entry.load()
    return registered()
