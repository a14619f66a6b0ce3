"""What a bare import loads, and what it must leave alone."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = (
    "matplotlib", "PyQt5", "pyqtgraph", "dask", "distributed", "cupy", "sklearn", "hyperspy",
    "rsciio", "pint", "numba", "scipy", "h5py", "zarr", "pydantic", "tqdm", "ncempy",
)  # fmt: skip

PROBE = """
import json, logging, sys, warnings
filters, handlers = list(warnings.filters), list(logging.root.handlers)
import py4DSTEM
if {touch!r}:
    for name in {touch!r}:
        getattr(py4DSTEM, name)
import random
print(json.dumps({{
    "modules": sorted({{m.split(".")[0] for m in sys.modules}}),
    "warnings": filters == list(warnings.filters),
    "logging": handlers == list(logging.root.handlers),
}}))
"""


def probe(*touch: str) -> dict[str, object]:
    code = PROBE.format(touch=list(touch))
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(out.stdout)


def test_bare_import_loads_nothing_heavy() -> None:
    seen = probe()
    assert not set(HEAVY) & set(seen["modules"])
    assert "numpy" not in seen["modules"]
    assert seen["warnings"] and seen["logging"]


def test_cube_and_read_leave_the_far_rooms_alone() -> None:
    seen = probe("DataCube", "read", "Disk", "run")
    far = {"matplotlib", "PyQt5", "pyqtgraph", "dask", "distributed", "cupy", "sklearn",
           "hyperspy", "rsciio", "zarr"}  # fmt: skip
    assert not far & set(seen["modules"])
    assert seen["logging"]


def test_import_does_not_touch_the_random_state() -> None:
    code = (
        "import numpy as np; np.random.seed(1); a = np.random.get_state()[1].sum()\n"
        "import py4DSTEM; py4DSTEM.DataCube; py4DSTEM.virtual_image\n"
        "assert np.random.get_state()[1].sum() == a"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_needs_no_numpy() -> None:
    code = (
        "import sys\nfrom py4DSTEM.cli import main\n"
        "code = main(['--help'])\nassert code == 0\nassert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_every_public_name_exists() -> None:
    import py4DSTEM

    missing = [name for name in dir(py4DSTEM) if not hasattr(py4DSTEM, name)]
    assert not missing


def test_stub_and_version_agree() -> None:
    from importlib.metadata import version

    import py4DSTEM

    assert version("py4DSTEM") == py4DSTEM.__version__
