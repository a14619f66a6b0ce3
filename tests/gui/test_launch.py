"""The start of the program: what is missing is said, and nothing aborts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from py4DSTEM.cli.output import Exit
from py4DSTEM.gui import launch
from py4DSTEM.gui.launch import (
    NO_DISPLAY,
    Unstartable,
    check_display,
    check_plugin,
    choose_binding,
    plugin_folder,
)

linux = pytest.mark.skipif(
    sys.platform in ("win32", "darwin"), reason="displays there cannot be missing"
)


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, **environment},
    )  # fmt: skip


def test_the_exit_code_is_that_of_the_command_line() -> None:
    assert Exit.NO_DISPLAY == NO_DISPLAY


@linux
@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({}, "neither DISPLAY nor WAYLAND_DISPLAY"),
        ({"DISPLAY": ":9876"}, "':9876' .* cannot be reached"),
        ({"QT_QPA_PLATFORM": "xcb"}, "DISPLAY is not set"),
        ({"WAYLAND_DISPLAY": "wayland-7", "XDG_RUNTIME_DIR": "/nowhere"}, "wayland-7"),
        ({"QT_QPA_PLATFORM": "wayland;xcb", "WAYLAND_DISPLAY": "/no/socket"}, "/no/socket"),
    ],
)
def test_a_missing_display_is_said(environment: dict[str, str], reason: str) -> None:
    with pytest.raises(Unstartable, match=reason):
        check_display(environment, "linux")


def test_other_systems_and_platforms_are_left_alone() -> None:
    check_display({}, "win32")
    check_display({}, "darwin")
    check_display({"QT_QPA_PLATFORM": "offscreen"}, "linux")


@linux
def test_an_unknown_platform_is_said() -> None:
    import os

    binding = os.environ["PYQTGRAPH_QT_LIB"]
    assert list(plugin_folder(binding).glob("libqoffscreen*"))
    with pytest.raises(Unstartable, match=r"no such platform; it has .*offscreen"):
        check_plugin(binding, {"QT_QPA_PLATFORM": "bogus"}, "linux")
    check_plugin(binding, {"QT_QPA_PLATFORM": "offscreen"}, "linux")


def test_missing_qt_is_said_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unstartable, match=r"NoSuchQt cannot be imported") as raised:
        choose_binding({"PYQTGRAPH_QT_LIB": "NoSuchQt"})
    assert "pip install" in str(raised.value) and "apt-get install" in str(raised.value)
    monkeypatch.setattr(launch, "find_spec", lambda name: None)
    with pytest.raises(Unstartable, match=r"needs Qt \(PyQt5\).*pip install"):
        choose_binding({})


@linux
def test_the_program_ends_with_a_message_and_69(tmp_path: Path) -> None:
    code = (
        "import os, sys\nos.environ.pop('QT_QPA_PLATFORM', None)\n"
        "os.environ.pop('WAYLAND_DISPLAY', None)\nos.environ['DISPLAY'] = ':9876'\n"
        "from py4DSTEM.cli import main\nsys.exit(main([]))"
    )
    done = python(code)
    assert done.returncode == 69 and "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr and "abort" not in done.stderr.lower()


def test_help_is_light() -> None:
    code = (
        "import sys\nfrom py4DSTEM.cli import main\ncode = main(['gui', '--help'])\n"
        "heavy = {'numpy', 'PyQt5', 'PyQt6', 'pyqtgraph', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy or code else 0)"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert "FILE" in done.stdout


START = """
import sys, threading, signal, os
from pyqtgraph.Qt import QtCore
from py4DSTEM.gui import program, window
begin = program._begin
def begun(made, files):
    begin(made, files)
    def look():
        scan = made.session.project.scan
        if files and scan is None:
            return
        clock.stop()
        heavy = {'matplotlib', 'sklearn', 'dask', 'hyperspy', 'IPython'} & set(sys.modules)
        print('heavy', sorted(heavy), 'shown', made.isVisible(), scan and scan.name, flush=True)
        os.kill(os.getpid(), signal.SIGINT)
    clock = QtCore.QTimer(made)
    clock.timeout.connect(look)
    clock.start(20)
program._begin = begun
from py4DSTEM.cli import main
sys.exit(main(ARGUMENTS))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent in another way there")
def test_files_are_shown_and_ctrl_c_ends_it_well(tmp_path: Path) -> None:
    i, j = np.indices((24, 20))
    data = np.zeros((4, 5, 24, 20), np.uint16) + np.uint16(90) * (np.hypot(i - 11, j - 9) < 5)
    path = tmp_path / "first.npy"
    np.save(path, data.astype(np.uint16))
    done = python(
        START.replace("ARGUMENTS", repr([str(path)])), PY4DSTEM_HOME=str(tmp_path / "home")
    )
    assert done.returncode == 0, done.stderr
    assert "shown True first" in done.stdout and "heavy []" in done.stdout
    assert "Traceback" not in done.stderr


def test_safe_start_leaves_settings_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "preferences.json").write_text('{"theme": "light"}')
    done = python(START.replace("ARGUMENTS", repr(["gui", "--safe"])), PY4DSTEM_HOME=str(home))
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in home.iterdir() if p.suffix != ".log") == ["preferences.json"]


def test_a_wrong_option_is_a_mistake_of_usage(capsys: Any) -> None:
    assert launch.main(["--nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err
