"""The command line, in this process and in its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clikit import Outcome, Shell, make_sparse, small_scan

from py4DSTEM.cli import main


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command in this process."""

    def run(*args: object) -> Outcome:
        capsys.readouterr()
        code = main([str(a) for a in args])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A scan as an .npy file."""
    path = tmp_path / "scan.npy"
    np.save(path, small_scan())
    return path


@pytest.fixture
def sparse_scan(tmp_path: Path) -> Path:
    """A scan of 8 GiB that takes no space on the disk."""
    return make_sparse(tmp_path / "large.npy", (256, 256, 256, 256), "<u2")
