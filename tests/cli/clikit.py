"""The command line in a process of its own, and scans to use it on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest


class Outcome(NamedTuple):
    """Exit code, data and talk of a command."""

    code: int
    out: str
    err: str


def clean_environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    """This process's environment with changes; None removes a variable."""
    merged: dict[str, str | None] = {**os.environ, **changes}
    return {k: v for k, v in merged.items() if v is not None}


class Shell:
    """Run a command in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self,
        *args: object,
        python: Sequence[str] = (),
        env: Mapping[str, str | None] | None = None,
        code: str | None = None,
        **options: Any,
    ) -> Outcome:
        what = ["-c", code] if code is not None else ["-m", "py4DSTEM.cli"]
        command = [sys.executable, *python, *what, *map(str, args)]
        options.setdefault("cwd", self.folder)
        done = subprocess.run(
            command, env=clean_environment(env or {}), capture_output=True, check=False,
            timeout=120, **options,
        )  # fmt: skip
        decoded = (s.decode("utf-8", "surrogateescape") for s in (done.stdout, done.stderr))
        return Outcome(done.returncode, *decoded)

    def interrupted(self, number: signal.Signals, *args: object, when: Callable[[], bool]) -> Any:
        """Start, wait until `when`, send a signal; the outcome and the seconds it took to stop."""
        command = [sys.executable, "-m", "py4DSTEM.cli", *map(str, args)]
        process = subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        limit = time.monotonic() + 60
        while not when() and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.02)
        start = time.monotonic()
        process.send_signal(number)
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
        return Outcome(process.returncode, out, err), time.monotonic() - start


def small_scan() -> np.ndarray:
    """A beam of 40 counts and a weak ring, (5, 6, 24, 28); asymmetric, off centre."""
    x, y = np.indices((24, 28))
    radius = np.hypot(x - 11, y - 15)
    pattern = 40 * (radius < 4) + 2 * ((radius > 6) & (radius < 9)) + (x > y)
    weights = 1 + np.arange(30).reshape(5, 6)
    return (weights[:, :, None, None] * pattern).astype(np.uint16)


def make_sparse(path: Path, shape: tuple[int, ...], dtype: str) -> Path:
    """An .npy file of zeros, without blocks; skipped where the file system has none such."""
    from numpy.lib import format as npy

    with open(path, "wb") as file:
        header = {"descr": dtype, "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(file, header)
        size = file.tell() + int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
        try:
            file.truncate(size)
        except OSError as error:
            pytest.skip(f"no file of {size} bytes here: {error}")
    if path.stat().st_blocks * 512 > 10_000_000:
        pytest.skip("this file system has no sparse files")
    return path
