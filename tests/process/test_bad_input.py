"""What no measurement can come of: typed errors, masked positions, and no number that looks fine.

Whatever is not asked about here must neither crash nor warn: warnings are errors in these tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import (
    BraggPeaks,
    Calibration,
    DataCube,
    DiffractionSlice,
    Disk,
    Mask,
    Py4DSTEMError,
    StrainMap,
)
from py4DSTEM.cli import main
from py4DSTEM.process.bragg.detect import FindBraggDisks

pytestmark = pytest.mark.filterwarnings("error")

NAN, INF = float("nan"), float("inf")
SCAN, Q_SHAPE, PITCH = (2, 3), (40, 44), 12.0
KNOWN = Calibration().replace(origin_px=(30.0, 30.0), Q_pixel_size=0.02, Q_pixel_units="A^-1")


# ---- good data, to be spoiled --------------------------------------------------------------------
@cache
def _expected(shape: tuple[int, int] = Q_SHAPE) -> np.ndarray:
    x, y = np.indices(shape)
    cx, cy = ((n - 1) / 2 for n in shape)
    nodes = PITCH * np.mgrid[-2:3, -2:3].reshape(2, -1).T
    rims = (np.hypot(x - cx - i, y - cy - j) for i, j in nodes)
    return 1 + sum(60 / (1 + np.exp(3 * (rim - 4))) for rim in rims)


def frames(dtype: str = "u2", shape: tuple[int, int] = Q_SHAPE) -> np.ndarray:
    counts = np.random.default_rng(0).poisson(_expected(shape), (*SCAN, *shape))
    return counts.astype(dtype)


def probe() -> py4DSTEM.Probe:
    return py4DSTEM.synthetic_probe(Q_SHAPE, 4.0, 0.6)


def spoiled(value: Any, where: Any = (0, 1), dtype: str = "f4") -> np.ndarray:
    array = frames(dtype)
    array[where] = value
    return array


PATTERNS: dict[str, Callable[[], np.ndarray]] = {
    "empty": lambda: np.zeros_like(frames()),
    "one empty": lambda: spoiled(0),
    "saturated": lambda: np.full_like(frames(), 65535),
    "one saturated": lambda: spoiled(65535, dtype="u2"),
    "not a number": lambda: np.full(frames().shape, NAN, "f4"),
    "one not a number": lambda: spoiled(NAN),
    "dead region": lambda: spoiled(NAN, (..., slice(17, 22), slice(18, 24))),
    "infinite pixel": lambda: spoiled(INF, (0, 1, 3, 3)),
    "negative": lambda: -frames("f4") - 1,
    "huge": lambda: frames("f8") * 1e30,
    "huge single": lambda: frames("f4") * np.float32(1e36),
    "uint64": lambda: frames("u8"),
    "half": lambda: frames("f2"),
    "bool": lambda: frames() > 20,
    "big-endian": lambda: frames(">u2"),
    "read-only": lambda: np.broadcast_to(frames()[0, 0], frames().shape),
    "4 x 4": lambda: frames()[..., :4, :4],
    "one row": lambda: frames()[..., 20:21, :],
    "one pixel": lambda: frames()[..., :1, :1],
    "one pattern": lambda: frames()[:1, :1],
    "prime": lambda: frames(shape=(37, 41)),
}

SCANS: dict[str, Callable[[DataCube], Any]] = {
    "probe": py4DSTEM.measure_probe,
    "vacuum": lambda cube: py4DSTEM.measure_probe(cube, "auto"),
    "disks": lambda cube: py4DSTEM.find_bragg_disks(cube, probe()),
    "parabola": lambda cube: py4DSTEM.find_bragg_disks(cube, probe(), subpixel="parabola"),
    "phase": lambda cube: py4DSTEM.find_bragg_disks(cube, probe(), subpixel="dft", corr_power=0),
    "spots": lambda cube: py4DSTEM.find_spots(cube, sigma_px=2.0),
    "preview": lambda cube: py4DSTEM.preview_bragg_disks(cube, probe(), positions=[(0, 0)]),
    "origin": py4DSTEM.measure_origin,
    "com": lambda cube: py4DSTEM.measure_origin(cube, method="com"),
    "friedel": lambda cube: py4DSTEM.measure_origin(cube, method="friedel"),
    "radial": lambda cube: py4DSTEM.measure_origin(cube, method="radial"),
    "ellipse": lambda cube: py4DSTEM.measure_ellipse(cube, inner_px=5, outer_px=18),
    "pixel size": lambda cube: py4DSTEM.measure_pixel_size(cube, [2.0, 1.4], inner_px=5),
    "rotation": py4DSTEM.measure_rotation,
    "cepstrum": py4DSTEM.cepstrum,
    "cepstral strain": py4DSTEM.cepstral_strain,
    "ring strain": lambda cube: py4DSTEM.ring_strain(
        cube.with_calibration(origin_px=(19.5, 21.5)), 6, 17
    ),
}


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("task", SCANS)
def test_patterns(task: str, name: str) -> None:
    """A result, or an error that says something; nothing else."""
    try:
        result = SCANS[task](DataCube(PATTERNS[name]()))
    except Py4DSTEMError as error:
        assert len(str(error)) > 25
        return
    if isinstance(result, BraggPeaks):
        assert np.isfinite(result.positions_px).all()
        assert result.report["positions_without_disks"] == (result.counts == 0).sum()
    if isinstance(result, StrainMap):
        assert np.isfinite(result.e_xx[result.mask]).all()
        assert np.isnan(result.e_xx[~result.mask]).all()


@pytest.mark.parametrize("name", ["one empty", "one saturated", "one not a number"])
def test_one_bad_pattern_is_masked_and_the_others_are_not(name: str) -> None:
    cube = DataCube(PATTERNS[name]())
    good = np.ones(SCAN, bool)
    good[0, 1] = False
    peaks = py4DSTEM.find_bragg_disks(cube, probe())
    np.testing.assert_array_equal(peaks.counts > 0, good)
    assert peaks.report["positions_without_disks"] == 1
    for method in ("disk", "friedel", "radial"):
        origin = py4DSTEM.measure_origin(cube, method=method)
        np.testing.assert_array_equal(np.isfinite(origin.origin_px).all(-1), good)
        assert sum(origin.reasons.values()) == 1


def test_a_disk_hidden_by_a_saturated_pattern_is_refused_at_once() -> None:
    with pytest.raises(Py4DSTEMError, match="larger than the detector, or saturated"):
        py4DSTEM.measure_probe(DataCube(PATTERNS["one saturated"]()))


def test_dead_pixels_do_not_spoil_the_probe() -> None:
    found = py4DSTEM.measure_probe(DataCube(PATTERNS["dead region"]()))
    assert found.radius_px == pytest.approx(4.0, abs=0.1)
    hidden = np.ma.masked_array(frames()[0, 0], mask=True)
    with pytest.raises(Py4DSTEMError, match="no pixel"):
        py4DSTEM.measure_probe(hidden)


# ---- tables of peaks -----------------------------------------------------------------------------
def lattice_rows(steps: int = 2) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    hk = np.mgrid[-steps : steps + 1, -steps : steps + 1].reshape(2, -1).T
    vectors = 30 + hk @ np.array([[10.0, 1.0], [-1.0, 10.0]])
    return [vectors + rng.normal(0, 0.02, vectors.shape) for _ in range(6)]


def table(rows: list[np.ndarray], calibration: Calibration = KNOWN, **fields: Any) -> BraggPeaks:
    counts = [len(row) for row in rows]
    rx, ry = np.divmod(np.repeat(np.arange(6), counts), SCAN[1])
    q = np.concatenate([np.reshape(row, (-1, 2)) for row in rows])
    known = {"intensity": 100.0, "sigma_qx": 0.02, "sigma_qy": 0.02, "cov_qxqy": 0.0} | fields
    columns = {"rx": rx, "ry": ry, "qx": q[:, 0], "qy": q[:, 1]}
    columns |= {name: np.full(len(q), value) for name, value in known.items()}
    return BraggPeaks.from_columns(columns, SCAN, calibration=calibration, Q_shape=(61, 61))


def first(name: str, value: float) -> BraggPeaks:
    """The first position spoiled."""
    peaks = table(lattice_rows())
    points = peaks.points.copy()
    points[name][:25] = value
    return BraggPeaks(points, peaks.offsets, SCAN, KNOWN, Q_shape=(61, 61))


def shifted(**known: Any) -> Callable[[], BraggPeaks]:
    return lambda: table(lattice_rows(), KNOWN.replace(**known))


PEAKS: dict[str, Callable[[], BraggPeaks]] = {
    "none": lambda: table([np.empty((0, 2))] * 6),
    "one": lambda: table([row[12:13] for row in lattice_rows()]),
    "two": lambda: table([row[12:14] for row in lattice_rows()]),
    "on a line": lambda: table([row[10:15] for row in lattice_rows()]),
    "some on a line": lambda: table([*lattice_rows()[:5], lattice_rows()[5][10:15]]),
    "all the same": lambda: table([np.full((9, 2), 30.0)] * 6),
    "doubled": lambda: table([np.repeat(row, 2, axis=0) for row in lattice_rows()]),
    "one doubled": lambda: table([np.full((25, 2), 10.0), *lattice_rows()[1:]]),
    "within a pixel": lambda: table([30 + 0.001 * (row - 30) for row in lattice_rows()]),
    "random": lambda: table(list(np.random.default_rng(2).uniform(0, 60, (6, 20, 2)))),
    "NaN": lambda: first("qx", NAN),
    "infinite": lambda: first("qx", INF),
    "far": lambda: first("qy", 1e300),
    "no intensity": lambda: table(lattice_rows(), intensity=0.0),
    "negative intensity": lambda: table(lattice_rows(), intensity=-5.0),
    "unknown intensity": lambda: table(lattice_rows(), intensity=NAN),
    "infinite intensity": lambda: first("intensity", INF),
    "huge intensity": lambda: first("intensity", 1e300),
    "zero sigma": lambda: table(lattice_rows(), sigma_qx=0.0),
    "some zero sigma": lambda: first("sigma_qx", 0.0),
    "negative sigma": lambda: table(lattice_rows(), sigma_qx=-1.0),
    "unknown sigma": lambda: first("sigma_qy", NAN),
    "tiny sigma": lambda: table(lattice_rows(), sigma_qx=1e-200),
    "huge sigma": lambda: table(lattice_rows(), sigma_qx=1e200),
    "impossible covariance": lambda: table(lattice_rows(), cov_qxqy=1.0),
    "no calibration": lambda: table(lattice_rows(), Calibration()),
    "origin NaN": shifted(origin_px=np.full((*SCAN, 2), NAN)),
    "some origins NaN": shifted(origin_px=np.where(np.arange(12).reshape(*SCAN, 2) < 4, NAN, 30.0)),
    "wrong origin": shifted(origin_px=(300.0, -50.0)),
    "ellipse like a line": shifted(ellipse=(100.0, 1e-3, 0.3)),
    "angles": shifted(Q_pixel_size=1.0, Q_pixel_units="mrad"),
}

TABLES: dict[str, Callable[[BraggPeaks], Any]] = {
    "basis": py4DSTEM.choose_basis,
    "lattice": py4DSTEM.fit_lattice,
    "equal": lambda peaks: py4DSTEM.fit_lattice(peaks, weights="equal", robust=False),
    "strain": lambda peaks: py4DSTEM.fit_lattice(peaks).strain_map(),
    "origin": py4DSTEM.measure_origin,
    "calibrate": lambda peaks: py4DSTEM.calibrate_origin(peaks, model="constant"),
    "ellipse": py4DSTEM.measure_ellipse,
    "pixel size": lambda peaks: py4DSTEM.measure_pixel_size(peaks, [5.0, 3.53, 2.5]),
    "vector map": py4DSTEM.bragg_vector_map,
    "virtual image": lambda peaks: py4DSTEM.bragg_virtual_image(peaks, Disk(5, center=(30, 30))),
    "masked": lambda peaks: peaks.masked(Q=Mask(np.ones((61, 61)))),
    "columns": lambda peaks: BraggPeaks.from_columns(peaks.to_columns(), SCAN),
}


@pytest.mark.parametrize("name", PEAKS)
@pytest.mark.parametrize("task", TABLES)
def test_tables_of_peaks(task: str, name: str) -> None:
    peaks = PEAKS[name]()
    try:
        result = TABLES[task](peaks)
    except Py4DSTEMError as error:
        assert len(str(error)) > 25
        return
    if isinstance(result, StrainMap):
        assert np.isfinite(result.e_xx[result.mask]).all()
        assert (result.sigma_e_xx[result.mask] > 0).all()
    if isinstance(result, py4DSTEM.LatticeFit):
        assert sum(result.report["positions"].values()) == result.mask.size
        assert np.isfinite(result.vectors[result.mask]).all()


@pytest.mark.parametrize(
    "name",
    [n for n in PEAKS if n not in {"none", "all the same", "doubled", "random"}],
)
def test_no_bad_peak_moves_the_origin_of_the_others(name: str) -> None:
    origin = py4DSTEM.measure_origin(PEAKS[name]()).origin_px
    assert np.nanmax(np.abs(origin - 30)) < 0.1
    assert np.isfinite(origin).all(-1).sum() >= 5


@pytest.mark.parametrize("name", ["NaN", "infinite", "far", "one doubled", "some on a line"])
def test_only_the_bad_position_has_no_lattice(name: str) -> None:
    fit = py4DSTEM.fit_lattice(PEAKS[name]())
    assert fit.mask.sum() == 5
    assert fit.report["positions"]["usable"] == 5
    strain = fit.strain_map()
    assert np.nanmax(np.abs(strain.e_xx)) < 2e-3


@pytest.mark.parametrize("name", ["none", "one", "two", "on a line", "all the same"])
def test_too_little_for_a_lattice(name: str) -> None:
    with pytest.raises(Py4DSTEMError):
        py4DSTEM.fit_lattice(PEAKS[name]())
    with pytest.raises(Py4DSTEMError):
        py4DSTEM.fit_lattice(PEAKS[name](), (0.2, 0.02), (-0.02, 0.2)).strain_map()


# ---- arguments -----------------------------------------------------------------------------------
@cache
def _fit() -> py4DSTEM.LatticeFit:
    return py4DSTEM.fit_lattice(table(lattice_rows()))


def find(**given: Any) -> Any:
    return py4DSTEM.find_bragg_disks(DataCube(frames()), **{"probe": probe(), **given})


def origin(**given: Any) -> Any:
    return py4DSTEM.measure_origin(DataCube(frames()), **given)


def pattern() -> DiffractionSlice:
    return DiffractionSlice(frames()[0, 0])


ARGUMENTS: dict[str, Callable[[], Any]] = {
    **{
        f"synthetic {shape}": lambda shape=shape: py4DSTEM.synthetic_probe(shape, 4.0)
        for shape in [(0, 9), (48,), "ab", None, (NAN, 4), (1e9, 1e9), (4, 4)]
    },
    **{
        f"radius {radius}": lambda radius=radius: py4DSTEM.synthetic_probe(Q_SHAPE, radius)
        for radius in (0, -1, NAN, INF, 30, "x", None)
    },
    "center of three": lambda: py4DSTEM.synthetic_probe(Q_SHAPE, 4.0, center=(1, 2, 3)),
    "center outside": lambda: py4DSTEM.synthetic_probe(Q_SHAPE, 4.0, center=(-9, 2)),
    "rim": lambda: py4DSTEM.synthetic_probe(Q_SHAPE, 4.0, rim=(1, 2, 3)),  # type: ignore[arg-type]
    **{
        f"kernel {kind} {given}": lambda kind=kind, given=given: probe().kernel(kind, **given)
        for kind in ("edge", "sigmoid")
        for given in (
            {"spacing_px": NAN}, {"spacing_px": 2.0}, {"spacing_px": "a"}, {"trench_px": (5, 4)},
            {"trench_px": (5,)}, {"trench_px": (NAN, 8)}, {"trench_px": 8},
            {"Q_shape": (4, 4)}, {"Q_shape": (1e9, 1e9)},
        )
    },
    "no such kernel": lambda: probe().kernel("round"),  # type: ignore[arg-type]
    "step with an unheard-of field": lambda: FindBraggDisks(unheard_of=1),  # type: ignore[call-arg]
    **{
        f"find {name} {value!r}": lambda name=name, value=value: find(**{name: value})
        for name, values in {
            "probe": (3, "missing.h5", {}, {"radius_px": 3}, [1, 2], np.zeros(Q_SHAPE)),
            "subpixel": ("x", None), "corr_power": (-1, 2, NAN, "a"), "sigma_cc_px": (-1, NAN, INF),
            "min_spacing_px": (NAN, INF), "spacing_px": (0, NAN, INF), "edge_px": (-5, INF),
            "max_peaks": (0, 2.5), "threshold": (NAN, INF), "slope": (NAN, -1, "b"),
            "gain": (0, NAN, INF), "read_noise": (-1, INF), "saturation": (0, NAN), "samples": (0,),
            "where": ("x", np.zeros(SCAN, bool), np.ones((9, 9)), np.full(SCAN, NAN)),
            "mask": ("x", np.zeros(Q_SHAPE), np.ones((4, 4)), np.full(Q_SHAPE, NAN)),
        }.items()
        for value in values
    },
    "probe too large": lambda: find(probe=py4DSTEM.synthetic_probe((96, 96), 21.0)),
    "preview nowhere": lambda: py4DSTEM.preview_bragg_disks(
        DataCube(frames()), probe(), positions=[(99, 99)]
    ),
    "preview positions": lambda: py4DSTEM.preview_bragg_disks(
        DataCube(frames()), probe(), positions="ab"  # type: ignore[arg-type]
    ),
    "spots": lambda: py4DSTEM.find_spots(DataCube(frames()), sigma_px="a"),  # type: ignore[arg-type]
    **{
        f"origin {name} {value!r}": lambda name=name, value=value: origin(**{name: value})
        for name, values in {
            "method": ("x", "peaks"), "center": ((NAN, 1), (1e9, 1), "ab", (1,)),
            "radius_px": (-1, NAN, 1e9), "search_px": (0, 1e9), "where": ("x", np.ones((9, 9))),
            "mask": ("x", np.ones((3, 3))),
        }.items()
        for value in values
    },
    "peaks are no scan": lambda: py4DSTEM.calibrate_origin(DataCube(frames()), 3),  # type: ignore[arg-type]
    **{
        f"fit origin {value!r}": lambda value=value: py4DSTEM.fit_origin(value)
        for value in ("x", None, 3, [[["a", "b"]]], np.full((3, 4, 2), NAN),
                      np.zeros((3, 4, 2), "c8"), np.full((3, 4, 2), 1e300),
                      np.zeros((3, 4)), np.zeros((0, 0, 2)))
    },
    **{
        f"rings {given}": lambda given=given: py4DSTEM.measure_ellipse(pattern(), **given)
        for given in ({"center": (1e9, 0)}, {"center": (NAN, 0)}, {"inner_px": 25, "outer_px": 10},
                      {"inner_px": -5}, {"outer_px": 1e-3}, {"method": "x"}, {"reference": []})
    },
    "a single crystal shows no rings": lambda: py4DSTEM.measure_ellipse(pattern()),
    **{
        f"reference {value!r}": lambda value=value: py4DSTEM.measure_pixel_size(pattern(), value)
        for value in ([], "x", None, [NAN], [-1, 2], [0.0], ["a"], np.ones((2, 2)))
    },
    **{
        f"g1 {value!r}": lambda value=value: py4DSTEM.fit_lattice(table(lattice_rows()), value)
        for value in ((0, 0), (NAN, 1), "ab", (1,), (1e-9, 0.0))
    },
    "near": lambda: py4DSTEM.choose_basis(table(lattice_rows()), near_px=NAN),
    **{
        f"strain {given}": lambda given=given: _fit().strain_map(**given)
        for given in (
            {"reference": np.zeros(SCAN, bool)}, {"reference": np.ones((9, 9), bool)},
            {"reference": "x"}, {"reference": ((2, 1), (0, 1))},
            {"reference": ((0.0, 0.0), (0.0, 0.0))}, {"reference": ((0.2, 0.02), (0.4, 0.04))},
            {"reference": ((NAN, 0.0), (0.0, 0.2))}, {"axis": "g3"}, {"axis": NAN},
            {"axis": (0, 0)}, {"method": "x"}, {"mask": np.zeros(SCAN, bool)}, {"mask": "x"},
            {"resolution_A": -1}, {"resolution_A": NAN},
        )
    },
    **{
        f"cepstrum {given}": lambda given=given: py4DSTEM.cepstral_strain(
            DataCube(frames()), **given
        )
        for given in ({"vectors": [(0, 0), (1, 1)]}, {"vectors": "ab"}, {"vectors": [(1, 2)]},
                      {"vectors": [(1, 1), (2, 2)]}, {"reference": np.zeros(SCAN, bool)},
                      {"epsilon": -1})
    },
    "ring without origin": lambda: py4DSTEM.ring_strain(DataCube(frames()), 6, 17),
    **{
        f"sampling {value!r}": lambda value=value: py4DSTEM.bragg_vector_map(
            table(lattice_rows()), value
        )
        for value in (0, -1, NAN, "x")
    },
    "no detector": lambda: py4DSTEM.bragg_virtual_image(PEAKS["one"](), 3),  # type: ignore[arg-type]
    **{
        f"columns {columns}": lambda columns=columns: BraggPeaks.from_columns(columns)
        for columns in (
            None, {}, {"rx": [0], "ry": [0], "qx": [1]},
            {"rx": [0], "ry": [0], "qx": [1], "qy": [1, 2]},
            {"rx": [0.5], "ry": [0], "qx": [1], "qy": [1]},
            {"rx": [-1], "ry": [0], "qx": [1], "qy": [1]},
            {"rx": [10**9], "ry": [10**9], "qx": [1], "qy": [1]},
            {"rx": [0], "ry": [0], "qx": ["a"], "qy": [1]},
            {"rx": [0], "ry": [0], "qx": [1j], "qy": [1]},
        )
    },
    "columns beyond memory": lambda: BraggPeaks.from_columns(
        {"rx": [0], "ry": [0], "qx": [1], "qy": [1]}, (10**9, 10**9)
    ),
    "select": lambda: PEAKS["one"]().select(np.ones(3, bool)),
    "masked": lambda: PEAKS["one"]().masked(np.ones((9, 9))),
    **{
        f"{function.__name__} of {type(value).__name__}": lambda f=function, v=value: f(v)
        for function in (
            py4DSTEM.find_bragg_disks, py4DSTEM.find_spots, py4DSTEM.preview_bragg_disks,
            py4DSTEM.measure_origin, py4DSTEM.calibrate_origin, py4DSTEM.measure_rotation,
            py4DSTEM.cepstrum, py4DSTEM.cepstral_strain, py4DSTEM.choose_basis,
            py4DSTEM.fit_lattice, py4DSTEM.strain_map, py4DSTEM.restore_strain,
            py4DSTEM.bragg_vector_map, py4DSTEM.compare_strain,
        )
        for value in (None, 3, "x", np.zeros((2, 2, 8, 8)), {})
    },
}  # fmt: skip


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments(name: str) -> None:
    with pytest.raises(Py4DSTEMError) as caught:
        ARGUMENTS[name]()
    assert len(str(caught.value)) > 15


def test_restored_strain_leaves_out_what_is_no_number() -> None:
    values = np.random.default_rng(0).normal(0, 1e-3, (16, 16))
    values[3] = NAN
    covariance = np.broadcast_to(1e-8 * np.eye(4), (16, 16, 4, 4)).copy()
    spoilt = StrainMap(
        values, values, values, values, covariance, np.ones((16, 16), bool), np.eye(2)
    )
    restored = py4DSTEM.restore_strain(spoilt, resolution_A=None)
    np.testing.assert_array_equal(restored.mask, np.isfinite(values))
    assert np.isfinite(restored.e_xx[restored.mask]).all()


# ---- command line --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "kind",
    [
        "measure-probe",
        "find-bragg-disks",
        "measure-origin",
        "measure-ellipse",
        "measure-rotation",
        "fit-lattice",
        "strain-map",
        "restore-strain",
        "cepstral-strain",
        "ring-strain",
    ],
)
@pytest.mark.parametrize("file", ["junk.h5", "missing.h5", "strain-of-nothing.h5"])
def test_command_line(
    kind: str, file: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files that hold something else, or nothing, end with one line that says so."""
    path = os.fspath(tmp_path / file)
    if file == "junk.h5":
        (tmp_path / file).write_bytes(b"nonsense")
    elif file == "strain-of-nothing.h5":
        py4DSTEM.save(path, py4DSTEM.synthetic_probe((12, 12), 3.0))
    assert main(["run", kind, path]) in (1, 2, 3, 4, 5)
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "Traceback" not in said
