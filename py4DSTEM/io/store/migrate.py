"""Older schemas of our extra metadata, brought up to today's, one step at a time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from py4DSTEM.errors import Py4DSTEMWarning
from py4DSTEM.io.store.schema import SCHEMA

__all__ = ["MIGRATIONS", "migrated"]

Facts = dict[str, Any]

MIGRATIONS: dict[int, Callable[[Facts], Facts]] = {}
"""Schema number n → what turns its facts into those of n + 1."""


def migrated(
    facts: Mapping[str, Any],
    schema: int,
    *,
    current: int = SCHEMA,
    steps: Mapping[int, Callable[[Facts], Facts]] | None = None,
) -> Facts:
    """Facts of any schema as those of today's.

    A file of a later version is taken as it is, with a warning: what is not understood is ignored.
    """
    table = MIGRATIONS if steps is None else steps
    known = dict(facts)
    if schema > current:
        warnings.warn(
            f"the file was written by a later version (schema {schema}, this one knows {current}): "
            "something may be missing; update py4DSTEM to see everything",
            Py4DSTEMWarning,
            stacklevel=2,
        )
    for number in range(schema, current):
        known = table[number](known) if number in table else known
    return known
