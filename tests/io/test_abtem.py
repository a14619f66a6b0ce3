"""Zarr groups as abTEM 1.0 writes them (layout checked against abTEM 1.0.11)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import py4DSTEM


def axis(label: str, units: str, sampling: float, offset: float) -> dict[str, object]:
    return {"label": label, "units": units, "sampling": sampling, "offset": offset}


def test_abtem_scan(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason="the zarr extra is not installed")
    data = np.random.default_rng(0).random((3, 4, 7, 9), dtype=np.float32)
    group = zarr.open_group(str(tmp_path / "sim.zarr"), mode="w")
    group.create_array("array0", data=data)
    group.attrs["metadata0"] = {
        "type": "DiffractionPatterns",
        "data_origin": "abTEM_v1.0.11",
        "energy": 200000.0,
        "semiangle_cutoff": 20,
        "axes": {
            "axis_0": axis("x", "Å", 1.1, 0.0),
            "axis_1": axis("y", "Å", 0.9, 0.0),
            "axis_2": axis("kx", "1/Å", 0.1, -0.3),
            "axis_3": axis("ky", "1/Å", 0.2, -0.8),
        },
    }
    cube = py4DSTEM.read(tmp_path / "sim.zarr")
    np.testing.assert_array_equal(cube.data[...], data)
    assert [a.step for a in (*cube.calibration.R, *cube.calibration.Q)] == [1.1, 0.9, 0.1, 0.2]
    assert cube.calibration.Q_pixel_units == "A^-1" and cube.calibration.energy_eV == 200e3
    assert cube.calibration.semiangle_mrad == 20
    assert cube.calibration.mean_origin_px == pytest.approx((3.0, 4.0))
