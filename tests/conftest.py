"""Fixtures of all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the reference data; tests that need it are skipped where it is not."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("PY4DSTEM_SHARED_DATA", default))
    if not path.is_dir():
        pytest.skip(f"no reference data at {path} (set PY4DSTEM_SHARED_DATA)")
    return path
