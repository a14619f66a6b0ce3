"""Start of the program: all that can be wrong with Qt and the display is said before Qt aborts."""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import os
import socket
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["NO_DISPLAY", "Unstartable", "main"]

NO_DISPLAY = 69
"""Exit code where there is no display, or no Qt."""

BINDINGS = ("PyQt5", "PyQt6", "PySide6")
INSTALL = 'install it with: pip install "py4DSTEM[gui]"'
SYSTEM = (
    "on Debian and Ubuntu: apt-get install libgl1 libegl1 libxkbcommon-x11-0 libxcb-cursor0 "
    "libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 "
    "libxcb-xinerama0 libdbus-1-3"
)
ELSEWHERE = (
    "without a screen there is the command line: py4dstem --help, or py4dstem demo\n"
    "(QT_QPA_PLATFORM=offscreen starts the program without showing it)"
)


class Unstartable(Exception):
    """The program cannot be shown here; the message says why and what to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Show the program with some files and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Files, and options (``--help`` lists them); None: those of the command line.

    Returns
    -------
    int
        0, or `NO_DISPLAY`.
    """
    try:
        options = _parser().parse_args(argv)
    except SystemExit as stop:  # --help, or a mistake that argparse has explained
        return int(stop.code or 0)
    try:
        check_display(os.environ, sys.platform)
        binding = choose_binding(os.environ)
        check_plugin(binding, os.environ, sys.platform)
    except Unstartable as reason:
        sys.stderr.write(f"error: {reason}\n")
        return NO_DISPLAY
    program = import_module("py4DSTEM.gui.program")
    return int(program.start(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="py4dstem gui",
        description="The desktop program: open scans, drag detectors, calibrate, analyse.",
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="scans, results or projects")
    parser.add_argument("-j", "--workers", type=int, metavar="N", help="threads (default: all)")
    parser.add_argument("--safe", action="store_true", help="without saved layout and preferences")
    return parser


# ---- the display ---------------------------------------------------------------------------------
def check_display(environment: Any, platform: str) -> None:
    """Raise `Unstartable` where Qt would abort; choose Wayland where there is nothing else."""
    if platform in ("win32", "darwin", "cygwin"):
        return
    wish = environment.get("QT_QPA_PLATFORM", "").split(";")[0].split(":")[0]
    if wish == "xcb":
        _check_x11(environment.get("DISPLAY", ""))
    elif wish.startswith("wayland"):
        _check_wayland(environment)
    elif not wish:
        _check_any(environment)


def _check_any(environment: Any) -> None:
    if environment.get("DISPLAY"):
        _check_x11(environment["DISPLAY"])
    elif environment.get("WAYLAND_DISPLAY"):
        _check_wayland(environment)
        environment["QT_QPA_PLATFORM"] = "wayland"
    else:
        raise Unstartable(
            "there is no display: neither DISPLAY nor WAYLAND_DISPLAY is set\n"
            f"over ssh, connect with ssh -X; {ELSEWHERE}"
        )


def _check_x11(display: str) -> None:
    """As Qt does it, by libxcb: a server that is there may still refuse us."""
    if not display:
        raise Unstartable(f"there is no display: DISPLAY is not set\n{ELSEWHERE}")
    name = ctypes.util.find_library("xcb") or "libxcb.so.1"
    try:
        xcb = ctypes.CDLL(name)
    except OSError as error:
        raise Unstartable(f"Qt needs a library of the system: {error}\n{SYSTEM}") from error
    xcb.xcb_connect.restype = ctypes.c_void_p
    xcb.xcb_connect.argtypes = (ctypes.c_char_p, ctypes.c_void_p)
    xcb.xcb_connection_has_error.argtypes = xcb.xcb_disconnect.argtypes = (ctypes.c_void_p,)
    connection = xcb.xcb_connect(display.encode(), None)
    failed = xcb.xcb_connection_has_error(connection)
    xcb.xcb_disconnect(connection)
    if failed:
        raise Unstartable(
            f"the display {display!r} (DISPLAY) cannot be reached or refuses us\n{ELSEWHERE}"
        )


def _check_wayland(environment: Any) -> None:
    name = environment.get("WAYLAND_DISPLAY", "wayland-0")
    path = Path(environment.get("XDG_RUNTIME_DIR", "/nowhere")) / name  # an absolute name wins
    try:
        with socket.socket(socket.AF_UNIX) as there:
            there.settimeout(2.0)
            there.connect(str(path))
    except OSError as error:
        raise Unstartable(
            f"the display {name!r} (WAYLAND_DISPLAY) cannot be reached: {error.strerror or error}\n"
            f"{ELSEWHERE}"
        ) from error


# ---- Qt ------------------------------------------------------------------------------------------
def choose_binding(environment: Any) -> str:
    """Import the widgets of PyQt5, or of what is there, and tell pyqtgraph; the name of it."""
    wish = environment.get("PYQTGRAPH_QT_LIB")
    wishes = (wish,) if wish else tuple(name for name in BINDINGS if find_spec(name) is not None)
    if not wishes or find_spec("pyqtgraph") is None:
        missing = "Qt (PyQt5)" if not wishes else "pyqtgraph"
        raise Unstartable(f"the desktop program needs {missing}, which is missing; {INSTALL}")
    reasons = []
    for name in wishes:
        try:
            import_module(f"{name}.QtWidgets")
            import_module(f"{name}.QtSvg")
        except ImportError as error:
            reasons.append(f"{name} cannot be imported: {error}")
        else:
            environment["PYQTGRAPH_QT_LIB"] = name
            return name
    raise Unstartable("\n".join([*reasons, f"if it is not installed, {INSTALL}", SYSTEM]))


def check_plugin(binding: str, environment: Any, platform: str) -> None:
    """Raise `Unstartable` where the part of Qt that talks to the display cannot be loaded."""
    if platform in ("win32", "darwin", "cygwin"):
        return
    folder = plugin_folder(binding)
    wish = environment.get("QT_QPA_PLATFORM", "xcb").split(";")[0].split(":")[0] or "xcb"
    found = sorted(folder.glob(f"libq{wish}*.so"))
    if not found and folder.is_dir():
        known = ", ".join(sorted(p.stem.removeprefix("libq") for p in folder.glob("libq*.so")))
        raise Unstartable(f"QT_QPA_PLATFORM={wish}: {binding} has no such platform; it has {known}")
    try:
        for path in found[:1]:
            ctypes.CDLL(str(path))
    except OSError as error:
        raise Unstartable(f"Qt cannot talk to the display: {error}\n{SYSTEM}") from error


def plugin_folder(binding: str) -> Path:
    """Where Qt keeps what talks to displays."""
    info = import_module(f"{binding}.QtCore").QLibraryInfo
    if hasattr(info, "path"):
        plugins = info.path(info.LibraryPath.PluginsPath)
    else:
        plugins = info.location(info.LibraryLocation.PluginsPath)
    return Path(plugins) / "platforms"
