"""Typical mistakes, and whether what is said about them names thing, place and remedy."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from clikit import Outcome, small_scan

import py4DSTEM

Cli = Callable[..., Outcome]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one good file and one of each kind of trouble."""
    monkeypatch.chdir(tmp_path)
    np.save("scan.npy", small_scan())
    np.save("stream.npy", small_scan().reshape(30, 24, 28))
    np.save("image.npy", small_scan()[0, 0])
    np.save("mask.npy", np.ones((5, 5)))
    np.save("complex.npy", small_scan().astype(np.complex64))
    Path("empty.mib").touch()
    Path("notes.dm3").write_text("date,comment\n2024,too thick\n" * 30)
    Path("cut.npy").write_bytes(Path("scan.npy").read_bytes()[:5000])
    Path("numbers.raw").write_bytes(bytes(5000))
    Path("there.h5").write_bytes(b"an earlier result")
    Path("bad.toml").write_text("detectors = [\n")
    Path("folder").mkdir()
    np.save("folder/hidden.npy", small_scan())
    two = {"a": py4DSTEM.DataCube(small_scan()), "b": py4DSTEM.DataCube(small_scan())}
    py4DSTEM.save("two.h5", two)
    with h5py.File("nothing.h5", "w"):
        pass
    return tmp_path


VIEW = ("view", "scan.npy", "-o", "out.png")
CONVERT = ("convert", "scan.npy", "out.h5")
RUN = ("run", "virtual-images", "scan.npy", "-o", "out.h5")

MISTAKES: dict[str, tuple[tuple[str, ...], int, tuple[str, ...]]] = {
    "misspelt path": (
        ("info", "scam.npy"), 2, ("scam.npy", "no such file", "Did you mean scan.npy")),
    "missing folder": (
        ("info", "gone/scan.npy"), 2, ("gone/scan.npy", "folder gone does not exist")),
    "a folder": (("info", "folder"), 3, ("folder", "a directory", "formats()")),
    "empty file": (("info", "empty.mib"), 3, ("empty.mib", "is empty", "copied completely")),
    "wrong extension": (
        ("info", "notes.dm3"), 3, ("notes.dm3", "DigitalMicrograph", ".dm3 suggests")),
    "cut off": (("info", "cut.npy"), 3, ("cut.npy", "at byte 5000", "expected", "got 5000 bytes")),
    "raw without layout": (("info", "numbers.raw"), 3, ("numbers.raw", "layout=RawLayout(")),
    "bad layout": (
        ("info", "numbers.raw", "--layout", "u2"), 2, ("--layout is DTYPE:QX,QY", "'u2'")),
    "layout of no dtype": (
        ("info", "numbers.raw", "--layout", "pixel:5,5"), 2, ("dtype", "pixel", "uint16")),
    "layout that does not fit": (
        ("info", "numbers.raw", "--layout", "uint16:64,64"), 3, ("numbers.raw", "8192", "5000")),
    "unknown format": (("info", "scan.npy", "--format", "nyp"), 2, ("no format 'nyp'", "npy")),
    "format of another kind": (("info", "scan.npy", "--format", "mib"), 3, ("scan.npy", "mib")),
    "unknown data set": (("info", "two.h5", "--dataset", "c"), 2, ("two.h5", "'c'", "'a', 'b'")),
    "several data sets": (
        ("view", "two.h5", "-o", "out.png"), 2, ("two.h5", "--dataset", "'a', 'b'")),
    "no data": (("info", "nothing.h5"), 3, ("nothing.h5",)),
    "not a scan": (
        ("view", "image.npy", "--mean", "-o", "out.png"),
        2,
        ("image.npy", "no 4D scan", "(24, 28)"),
    ),
    "stream without shape": (
        ("view", "stream.npy", "-o", "out.png"), 2, ("stream.npy", "--scan-shape ROWS COLUMNS")),
    "scan shape of another size": (
        ("info", "scan.npy", "--scan-shape", "7", "9"), 2, ("(5, 6)", "30", "(7, 9)")),
    "offset of a scan": (
        ("info", "scan.npy", "--sync-offset", "3"), 2, ("sync_offset", ".crop(", "reshape_scan")),
    "complex scan": (("info", "complex.npy"), 0, ()),
    "no energy": (
        (*VIEW, "--disk", "5", "--units", "mrad"), 2, ("calibration", "with_calibration(")),
    "no origin": (
        ("run", "mean-radial-profile", "scan.npy"), 2,
        ("no origin", "--find-center", "origin_px=")),
    "detector outside": (
        (*VIEW, "--disk", "3", "--center", "500", "500"), 2, ("outside", "(24, 28)")),
    "ring inside out": ((*VIEW, "--adf", "9", "4"), 2, ("inner < outer", "inner=9.0", "outer=4.0")),
    "negative radius": ((*VIEW, "--disk=-3"), 2, ("radius", "positive", "-3.0")),
    "unknown unit": ((*VIEW, "--disk", "3", "--units", "furlong"), 2, ("'furlong'", "mrad")),
    "mask of another shape": ((*VIEW, "--mask", "mask.npy"), 2, ("(5, 5)", "(24, 28)")),
    "missing mask": ((*VIEW, "--mask", "none.npy"), 2, ("none.npy", ".npy file", "numpy.save")),
    "no such operation": (("run", "mean", "scan.npy"), 2, ("no operation 'mean'", "mean-pattern")),
    "unknown parameter": (
        (*RUN, "--detctors", "1"), 2, ("--detctors", "did you mean '--detectors'")),
    "missing parameter": (RUN, 2, ("detectors", "required")),
    "wrong detector": (
        (*RUN, "--detectors", '{"bf": {"kind": "dish", "radius": 3}}'), 2, ("dish", "disk")),
    "unknown key": (
        (*RUN, "--detectors", '{"bf": {"kind": "disk", "radios": 3}}'), 2, ("radios", "bf")),
    "bad parameter file": (
        (*RUN, "--params", "bad.toml"), 2, ("bad.toml", "not TOML", "name = value")),
    "output exists": (("convert", "scan.npy", "there.h5"), 2, ("there.h5 exists", "--force")),
    "output folder missing": (
        ("convert", "scan.npy", "gone/out.h5"), 2, ("folder gone", "out.h5", "create it")),
    "output is a folder": (
        ("view", "scan.npy", "-o", "folder"), 2, ("folder is a folder", "result.h5")),
    "output is the input": (
        ("convert", "scan.npy", "scan.npy", "--force"), 2, ("the input itself", "another name")),
    "several into a file": (
        ("convert", "scan.npy", "cut.npy", "out.h5"), 2, ("out.h5", "not an existing folder")),
    "image of a scan": (("convert", "scan.npy", "out.png"), 2, (".png", "DataCube", ".h5")),
    "chunks of nothing": (
        (*CONVERT, "--chunks", "0", "1", "1", "1"), 2, ("chunks", "positive", "(0, 1, 1, 1)")),
    "unknown compression": ((*CONVERT, "--compress", "zip"), 2, ("'zip'", "gzip")),
    "compression level": ((*CONVERT, "--compress", "gzip:best"), 2, ("'best'", "whole number")),
    "crop outside": ((*CONVERT, "--crop", "9", "12", "0", "3"), 2, ("crop", "(9, 12)", "5 pixels")),
    "binning too far": ((*CONVERT, "--bin", "100"), 2, ("100", "larger", "(24, 28)")),
    "binning by nothing": ((*CONVERT, "--bin", "0"), 2, ("positive whole number", "0")),
    "no number type": ((*CONVERT, "--dtype", "integer"), 2, ("'integer'", "uint16")),
    "no workers": ((*VIEW, "-j", "0"), 2, ("workers", "at least 1", "0")),
    "size without number": ((*VIEW, "--mem", "lots"), 2, ('"2 GB"', "'lots'")),
    "log file nowhere": ((*VIEW, "--log-file", "gone/log"), 2, ("--log-file gone/log", "folder")),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake(name: str, cli: Cli, bench: Path) -> None:
    args, code, words = MISTAKES[name]
    done = cli(*args)
    assert done.code == code, done
    for word in words:
        assert word in done.err, f"{word!r} is not in: {done.err}"
    assert "Traceback" not in done.err
    if code:
        assert done.out == "" and len(done.err) < 1500
    assert (bench / "there.h5").read_bytes() == b"an earlier result"
    assert not [p for p in os.listdir(bench) if p.startswith(("out.", ".out"))]


def test_no_permission(cli: Cli, bench: Path) -> None:
    if sys.platform == "win32" or os.getuid() == 0:
        pytest.skip("the superuser may do everything")
    (bench / "scan.npy").chmod(0)
    done = cli("info", "scan.npy")
    assert done.code == 2 and "permission" in done.err.lower()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_waited_for(cli: Cli, bench: Path) -> None:
    os.mkfifo("pipe.mib")
    done = cli("info", "pipe.mib")
    assert done.code == 2 and "pipe.mib: not a regular file" in done.err


def test_errors_are_also_what_others_would_catch(bench: Path) -> None:
    """`except FileNotFoundError`, `except ValueError` … go on working."""
    wanted: list[tuple[Any, type[Exception]]] = [
        (lambda: py4DSTEM.read("none.npy"), FileNotFoundError),
        (lambda: py4DSTEM.read("cut.npy"), OSError),
        (lambda: py4DSTEM.read("cut.npy"), ValueError),
        (lambda: py4DSTEM.Disk(-1), ValueError),
        (lambda: py4DSTEM.read("scan.npy").detector_presets(), LookupError),
        (lambda: py4DSTEM.save("gone/x.h5", py4DSTEM.read("scan.npy")), OSError),
    ]
    for call, kind in wanted:
        with pytest.raises(kind) as caught:
            call()
        assert isinstance(caught.value, py4DSTEM.Py4DSTEMError)
