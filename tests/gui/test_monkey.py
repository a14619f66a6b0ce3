"""Random acts of all kinds do nothing that nobody catches."""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("pyqtgraph", reason="the desktop program needs pyqtgraph and Qt")

if not os.environ.get("PY4DSTEM_MONKEY"):
    pytest.skip(
        "set PY4DSTEM_MONKEY=1: what random acts find depends on timing, and stops no other work",
        allow_module_level=True,
    )

FOLDER = Path(__file__).parents[2] / "benchmarks"
if not FOLDER.is_dir():
    pytest.skip("the benchmarks are not part of this copy", allow_module_level=True)


def _script(name: str) -> ModuleType:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


gui_desk = _script("gui_desk")
gui_monkey = _script("gui_monkey")


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.filterwarnings("ignore::py4DSTEM.errors.Py4DSTEMWarning")  # steps of tiny scans warn
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_random_acts(
    seed: int, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where exports go
    desk = gui_desk.Desk(workers=1)
    gui_monkey.no_dialogs(desk, monkeypatch.setattr)
    monkey = gui_monkey.Monkey(desk, seed, gui_monkey.small_files(tmp_path))
    try:
        desk.open(tmp_path / "good3.npy")
        monkey.run(250)
        wrong = [traceback.format_exception(error) for error in desk.uncaught]
        wrong += [trouble.details.splitlines() for trouble in desk.mistakes]
        assert not wrong, "\n".join([*wrong[0], "after", *monkey.last])
        assert desk.qt_messages == []
        assert sum(monkey.done.values()) == 250 and len(monkey.done) > 8
    finally:
        desk.end()
