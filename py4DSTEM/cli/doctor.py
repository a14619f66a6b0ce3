"""``py4dstem doctor``: what is installed and what the machine offers; nothing personal."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from py4DSTEM.cli.inputs import check_output
from py4DSTEM.cli.output import SCHEMA, Exit, emit, emit_json, human_bytes
from py4DSTEM.stream.options import RunOptions, available_memory_bytes

PACKAGES = (
    "py4DSTEM", "numpy", "scipy", "h5py", "hdf5plugin", "numba", "rocket-fft", "pydantic",
    "matplotlib", "tqdm", "rosettasciio", "ncempy", "hyperspy", "zarr", "dask", "distributed",
    "PyQt5", "pyqtgraph", "cupy-cuda12x",
)  # fmt: skip
Section = dict[str, Any]


def run(options: argparse.Namespace) -> int:
    """Report; exit 0 even where optional things are missing."""
    out = check_output(options.bundle, force=options.force) if options.bundle else None
    report = redacted(_report())
    if out is not None:
        text = json.dumps({"schema": SCHEMA, **report}, indent=1, default=str)
        out.write_text(text + "\n", encoding="utf-8")
    if options.json:
        emit_json(report)
        return Exit.OK
    for section, facts in report.items():
        emit(section)
        for key, value in facts.items():
            emit(f"  {key:<20} {value}")
    return Exit.OK


def _report() -> dict[str, Section]:
    sections = {"system": _system, "packages": _packages, "hdf5": _hdf5, "kernels": _kernels}
    return {name: _tried(section) for name, section in sections.items()}


def _tried(section: Callable[[], Section]) -> Section:
    try:
        return section()
    except Exception as error:  # whatever is wrong is what the report is for
        return {"error": f"{type(error).__name__}: {error}"}


def _system() -> Section:
    here = shutil.disk_usage(".")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "cores": RunOptions().worker_count(),
        "memory available": human_bytes(available_memory_bytes()),
        "disk free here": human_bytes(here.free),
        "temporary folder": tempfile.gettempdir(),
        "display": bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")),
        "BLAS threads": os.environ.get("OMP_NUM_THREADS", "default"),
    }


def _packages() -> Section:
    return {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _hdf5() -> Section:
    import h5py
    import hdf5plugin

    return {"libhdf5": h5py.version.hdf5_version, "filters": ", ".join(sorted(hdf5plugin.FILTERS))}


def _kernels() -> Section:
    """Whether compiled code works here, and whether it can be kept beside the source."""
    import numpy as np

    from py4DSTEM import kernels

    frames = np.ones((2, 3, 4), np.uint16)
    measured = kernels.compiled().measure(frames, None, moments=True)
    folder = Path(kernels.__file__).parent
    return {
        "compiled": bool((measured.total == 12).all()),
        "cache beside source": os.access(folder, os.W_OK),
    }


# ---- nothing personal ----------------------------------------------------------------------------
def redacted(report: dict[str, Section]) -> dict[str, Section]:
    """The report without home folder, user and host names."""
    secrets = _secrets()
    return {
        section: {key: _redact(value, secrets) for key, value in facts.items()}
        for section, facts in report.items()
    }


def _secrets() -> dict[str, str]:
    """What must not appear → what takes its place; the longest first."""
    found = {os.path.expanduser("~"): "~", platform.node(): "<host>"}
    with contextlib.suppress(KeyError, OSError):  # in some containers the user has no name
        found[getpass.getuser()] = "<user>"
    return {k: found[k] for k in sorted(found, key=len, reverse=True) if len(k) > 1}


def _redact(value: Any, secrets: dict[str, str]) -> Any:
    if not isinstance(value, str):
        return value
    for secret, name in secrets.items():
        value = re.sub(rf"(?<![A-Za-z0-9]){re.escape(secret)}(?![A-Za-z0-9])", name, value)
    return value
