"""The desktop program without a screen, with settings of its own for every test."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("PYQTGRAPH_QT_LIB", "PyQt5")
os.environ.setdefault("PYTEST_QT_API", os.environ["PYQTGRAPH_QT_LIB"].lower())


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read from, or written to, the settings of whoever runs the tests."""
    home: Path = tmp_path_factory.mktemp("home")
    for name in ("config", "data", "state"):  # the cache holds matplotlib's fonts, dear to make
        (home / name).mkdir()
        monkeypatch.setenv(f"XDG_{name.upper()}_HOME", str(home / name))
    runtime = home / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("PY4DSTEM_HOME", str(home / "py4dstem"))


@pytest.fixture(autouse=True)
def _no_widget_dies_while_it_is_painted() -> Iterator[None]:
    """What a test has left is collected after it, not while Qt still draws its windows.

    A window that only the test knew is garbage once its function has ended; events are processed
    after that, and an item that is collected in the middle of its own painting ends the process.
    """
    gc.freeze()  # what there was before is not looked at again: collecting takes milliseconds
    gc.disable()
    yield
    gc.enable()
    gc.collect()


@pytest.fixture
def session(qtbot: object) -> Iterator[object]:
    """A session with two workers; its threads end with the test."""
    from py4DSTEM.gui.session import Session

    made = Session(workers=2)
    yield made
    made.close()
