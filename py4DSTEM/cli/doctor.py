"""``py4dstem doctor``: what is installed and what the machine offers; nothing personal."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from py4DSTEM.cli.output import SCHEMA, Exit, emit, emit_json, human_bytes
from py4DSTEM.stream.options import RunOptions, available_memory_bytes

PACKAGES = (
    "py4DSTEM", "numpy", "scipy", "h5py", "hdf5plugin", "numba", "rocket-fft", "pydantic",
    "matplotlib", "tqdm", "rosettasciio", "ncempy", "hyperspy", "zarr", "dask", "distributed",
    "PyQt5", "pyqtgraph", "cupy-cuda12x",
)  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Report; exit 0 even where optional things are missing."""
    report = _report()
    if options.bundle:
        text = json.dumps({"schema": SCHEMA, **report}, indent=1, default=str)
        Path(options.bundle).write_text(text, encoding="utf-8")
    if options.json:
        emit_json(report)
        return Exit.OK
    for section, facts in report.items():
        emit(section)
        for key, value in facts.items():
            emit(f"  {key:<20} {value}")
    return Exit.OK


def _report() -> dict[str, dict[str, Any]]:
    return {
        "system": _system(),
        "packages": {name: _version(name) for name in PACKAGES},
        "hdf5": _hdf5(),
        "kernels": _kernels(),
    }


def _system() -> dict[str, Any]:
    here = shutil.disk_usage(".")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "cores": RunOptions().worker_count(),
        "memory available": human_bytes(available_memory_bytes()),
        "disk free here": human_bytes(here.free),
        "display": bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")),
        "BLAS threads": os.environ.get("OMP_NUM_THREADS", "default"),
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _hdf5() -> dict[str, Any]:
    import h5py
    import hdf5plugin

    return {"libhdf5": h5py.version.hdf5_version, "filters": ", ".join(hdf5plugin.get_filters())}


def _kernels() -> dict[str, Any]:
    """Whether compiled code works here, and whether its cache can be written."""
    import numpy as np

    from py4DSTEM import kernels

    frames = np.ones((2, 3, 4), np.uint16)
    try:
        measured = kernels.compiled().measure(frames, None, moments=True)
        works = bool((measured.total == 12).all())
    except Exception as error:  # whatever is wrong is what the report is for
        return {"compiled": f"{type(error).__name__}: {error}"}
    folder = Path(kernels.__file__).parent
    return {"compiled": works, "cache writable": os.access(folder, os.W_OK)}
