"""Imports run down the layers of the design."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_imports_run_one_way() -> None:
    pytest.importorskip("importlinter", reason="import-linter is installed by the dev extra")
    out = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports as f; exit(f())"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert out.returncode == 0, out.stdout + out.stderr
