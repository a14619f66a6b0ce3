"""Every exit code, from a process of its own; and what is left when work is cut short."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from clikit import Shell, small_scan

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of POSIX")


def leftovers(folder: Path, *expected: str) -> list[str]:
    """What is in a folder besides what should be."""
    return sorted(p.name for p in folder.iterdir() if p.name not in expected)


def test_all_went_well(shell: Shell, scan: Path) -> None:
    done = shell("info", scan.name, "--json")
    assert done.code == 0 and done.out.startswith("{") and done.err == ""


def test_some_files_failed(shell: Shell, scan: Path) -> None:
    assert shell("info", scan.name, "none.npy").code == 1


def test_usage(shell: Shell, scan: Path) -> None:
    for args in (["info"], ["nonsense"], ["view", scan.name], ["info", "none.npy"], ["--what"]):
        done = shell(*args)
        assert done.code == 2 and done.out == "" and done.err, args
        assert "Traceback" not in done.err


def test_damaged_input(shell: Shell, scan: Path) -> None:
    scan.write_bytes(scan.read_bytes()[:2000])
    assert shell("verify", scan.name).code == 3
    assert shell("view", scan.name, "-o", "image.png").code == 3


@posix
def test_disk_full(shell: Shell, tmp_path: Path) -> None:
    """A file size limit stands for a full disk; the old output is as it was."""
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    noise = np.random.default_rng(0).integers(0, 60000, (8, 8, 64, 64), np.uint16)
    np.save(tmp_path / "noise.npy", noise)
    (tmp_path / "out.h5").write_bytes(b"what was there before")
    for out in ("out.h5", "out.npy"):
        done = shell("convert", "noise.npy", out, "--force", preexec_fn=limit)
        assert done.code == 4, (out, done)
        assert out in done.err and "Traceback" not in done.err
        assert "MB for what is still to be written" in done.err and "MB free" in done.err
    assert (tmp_path / "out.h5").read_bytes() == b"what was there before"
    assert not leftovers(tmp_path, "noise.npy", "out.h5")


def test_too_little_memory(shell: Shell, scan: Path) -> None:
    done = shell("view", scan.name, "--mean", "-o", "mean.npy", "--mem", "100 B")
    assert done.code == 4 and "memory=" in done.err


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="there is always a display")
def test_no_display(shell: Shell, scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    for args in ([], ["gui"], [scan.name], ["gui", scan.name]):
        done = shell(*args)
        assert done.code == 69 and "py4dstem demo" in done.err and done.out == ""
        assert "Traceback" not in done.err


def test_bug(shell: Shell) -> None:
    code = (
        "import sys, py4DSTEM.cli.formats as f\n"
        "f.run = lambda options: 1 / 0\n"
        "from py4DSTEM.cli import main\nsys.exit(main(['formats']))"
    )
    done = shell(code=code)
    assert done.code == 70 and "ZeroDivisionError" in done.err and "bug in py4DSTEM" in done.err


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped(number: signal.Signals, code: int, shell: Shell, sparse_scan: Path) -> None:
    folder = sparse_scan.parent / "out"
    folder.mkdir()
    done, seconds = shell.interrupted(
        number, "convert", sparse_scan.name, "out/copy.h5", when=lambda: any(folder.iterdir())
    )
    assert done.code == code and "nothing was left half-written" in done.err, done
    assert not leftovers(folder)
    # Two seconds are meant; a machine that runs other tests meanwhile may take longer.
    assert seconds < 10


@posix
def test_output_into_a_closed_pipe(shell: Shell, tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom py4DSTEM.cli import main\n"
        "read, write = os.pipe(); os.close(read); os.dup2(write, 1)\n"
        "sys.exit(main(['formats']))"
    )
    done = shell(code=code)
    assert done.code == 0 and done.err == ""


def test_the_installed_program(tmp_path: Path) -> None:
    import subprocess

    program = Path(sys.executable).with_name("py4dstem")
    if not program.exists():
        pytest.skip("not installed as a program here")
    np.save(tmp_path / "scan.npy", small_scan())
    done = subprocess.run(
        [program, "view", "scan.npy", "--bf", "-o", "bf.png"], cwd=tmp_path, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "bf.png\n"), done.stderr
    assert (tmp_path / "bf.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["view", "--help"], ["gui", "--help"]])
def test_help_loads_nothing(args: list[str], shell: Shell) -> None:
    code = (
        "import sys\nfrom py4DSTEM.cli import main\n"
        f"main({args!r})\n"
        "heavy = {'numpy', 'numba', 'pydantic', 'h5py', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = shell(code=code)
    assert done.code == 0, done.err
