"""Steps on results of earlier steps: what a file holds, what was measured, options from fields."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from clikit import Outcome

import py4DSTEM
from py4DSTEM import BraggPeaks, DiffractionSlice, PointTable, RealSlice
from py4DSTEM.cli.run import steps
from py4DSTEM.stream import step as step_module
from py4DSTEM.stream.analysis import Analysis

Cli = Callable[..., Outcome]


@pytest.fixture
def peaks() -> BraggPeaks:
    columns = {
        "rx": [0, 0, 1, 1], "ry": [0, 2, 1, 1], "qx": [4.0, 5.0, 4.0, 9.0],
        "qy": [6.0, 6.5, 6.0, 2.0], "intensity": [10.0, 20.0, 30.0, 1.0],
    }  # fmt: skip
    return BraggPeaks.from_columns(columns, (2, 3), Q_shape=(12, 14))


@pytest.fixture
def peaks_file(peaks: BraggPeaks, tmp_path: Path) -> Path:
    py4DSTEM.save(tmp_path / "peaks.h5", peaks)
    return tmp_path / "peaks.h5"


def test_every_step_is_listed_once_and_explains_what_it_takes(cli: Cli) -> None:
    text = cli("run").out
    for kind, cls in steps().items():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", kind)
        assert text.count(f"  {kind} ") == 1
        told = cli("run", kind, "--help")
        assert told.code == 0 and "FILE holds a" in " ".join(told.out.split())
        for name, field in cls.model_fields.items():
            assert f"--{name.replace('_', '-')}" in told.out
            assert "default" in told.out or field.is_required()
    listed = json.loads(cli("run", "--json").out)["operations"]
    assert listed["bragg-vector-map"]["accepts"] == ["PointTable"]
    assert listed["mean-pattern"]["accepts"] == ["Cube"]


def test_an_analysis_is_applied_to_a_result(cli: Cli, peaks: BraggPeaks, peaks_file: Path) -> None:
    out = peaks_file.with_name("map.h5")
    done = cli("run", "bragg-vector-map", peaks_file, "--sampling", 2, "-o", out, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["parameters"]["sampling"] == 2
    image = py4DSTEM.read(out)
    assert np.array_equal(image.data, peaks.bragg_vector_map(2).data)


def test_a_center_makes_a_map_centred(cli: Cli, peaks: BraggPeaks, peaks_file: Path) -> None:
    out = peaks_file.with_name("map.h5")
    assert cli("run", "bragg-vector-map", peaks_file, "--center", 5, 6, "-o", out).code == 0
    truth = peaks.with_calibration(origin_px=(5, 6)).bragg_vector_map()
    assert np.array_equal(py4DSTEM.read(out).data, truth.data)
    again = cli("run", "bragg-vector-map", peaks_file, "--center", 5, 6, "--no-centered",
                "-o", out, "--force")  # fmt: skip
    assert again.code == 0 and py4DSTEM.read(out).shape == (12, 14)
    refused = cli("run", "bragg-vector-map", peaks_file, "--find-center")
    assert refused.code == 2 and "--find-center looks in a 4D scan" in refused.err


def test_what_was_measured_is_applied(cli: Cli, peaks: BraggPeaks, peaks_file: Path) -> None:
    known = peaks.with_calibration(origin_px=(4, 6), Q_pixel_size=0.1, Q_pixel_units="A^-1")
    other = peaks_file.with_name("other.h5")
    py4DSTEM.save(other, RealSlice(np.zeros((2, 3)), known.calibration))
    out = peaks_file.with_name("map.h5")
    args = ("run", "bragg-vector-map", peaks_file, "-o", out)
    assert cli(*args, "--calibration", other).code == 0
    assert np.array_equal(py4DSTEM.read(out).data, known.bragg_vector_map().data)
    np.save(other.with_suffix(".npy"), np.zeros(3))
    done = cli(*args, "--force", "--calibration", other.with_suffix(".npy"))
    assert done.code == 2 and "nothing that was measured" in done.err


def test_the_object_of_a_type_is_chosen(cli: Cli, peaks: BraggPeaks, tmp_path: Path) -> None:
    image = DiffractionSlice(np.eye(4))
    path = tmp_path / "several.h5"
    py4DSTEM.save(path, {"image": image, "peaks": peaks})
    assert cli("run", "bragg-vector-map", path).code == 0
    wrong = cli("run", "bragg-vector-map", path, "--dataset", "image")
    assert wrong.code == 2 and "holds no PointTable but a DiffractionSlice" in wrong.err
    py4DSTEM.save(path, {"image": image, "one": peaks, "two": peaks.masked()})
    done = cli("run", "bragg-vector-map", path)
    assert done.code == 2 and "--dataset ('one', 'two')" in done.err
    assert cli("run", "bragg-vector-map", path, "--dataset", "two").code == 0
    py4DSTEM.save(path, {"image": image, "another": image})
    none = cli("run", "bragg-vector-map", path)
    assert none.code == 2 and "'image' (DiffractionSlice)" in none.err


def test_a_scan_is_no_table(cli: Cli, scan: Path) -> None:
    done = cli("run", "bragg-vector-map", scan)
    assert done.code == 2 and "holds no PointTable but a DataCube" in done.err


def test_values_come_from_files(cli: Cli, peaks: BraggPeaks, peaks_file: Path) -> None:
    where = np.array([[True, False, False], [False, True, False]])
    np.save(peaks_file.with_name("where.npy"), where)
    shape = peaks_file.with_name("shape.json")
    shape.write_text('{"kind": "disk", "radius": 3, "center": [4, 6]}')
    out = peaks_file.with_name("part.h5")
    args = ("run", "mask-peaks", peaks_file, "-o", out)
    mask = f"@{peaks_file.with_name('where.npy')}"
    done = cli(*args, "--R", mask, "--Q", f"@{shape}")
    assert done.code == 0, done.err
    assert py4DSTEM.read(out).counts.tolist() == [[1, 0, 0], [0, 1, 0]]
    assert cli(*args, "--force", "--R", mask, "--Q", "none").code == 0
    assert py4DSTEM.read(out).counts.tolist() == [[1, 0, 0], [0, 2, 0]]
    missing = cli(*args, "--force", "--R", "@nothing.npy")
    assert missing.code == 2 and "@nothing.npy cannot be read" in missing.err
    wrong = cli(*args, "--force", "--R", "@" + str(shape))
    assert wrong.code == 2 and "packed" in wrong.err


class Kept(Analysis, kind="kept-value", version=1):
    """Take a result as a parameter."""

    other: PointTable | None = None
    accepts: ClassVar[tuple[type, ...]] = (PointTable,)

    def parameters(self) -> dict[str, Any]:
        return {"other": repr(self.other)}

    def apply(self, value: Any, options: Any = None) -> RealSlice:
        return RealSlice(self.other.counts if self.other is not None else value.counts)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """One analysis more, only here."""
    monkeypatch.setitem(step_module._REGISTRY, "kept-value", Kept)


del step_module._REGISTRY["kept-value"]


@pytest.mark.usefixtures("kept")
def test_a_result_can_be_a_parameter(cli: Cli, peaks_file: Path) -> None:
    assert "--other @FILE" in cli("run", "kept-value", "--help").out
    assert cli("run", "--json").code == 0
    out = peaks_file.with_name("counts.npy")
    done = cli("run", "kept-value", peaks_file, "--other", f"@{peaks_file}", "-o", out)
    assert done.code == 0 and np.load(out).sum() == 4, done.err


def test_completion_knows_analyses(cli: Cli) -> None:
    assert "bragg-vector-map" in cli("completion", "bash").out
    assert "--calibration" in cli("completion", "fish").out.replace("-l ", "--")


def test_from_a_scan_to_a_strain_map(cli: Cli, tmp_path: Path) -> None:
    """Every step is a file; what was measured is handed to the next one."""
    made = py4DSTEM.simulate.strained_lattice((8, 9), seed=3)
    py4DSTEM.save(tmp_path / "scan.h5", made.cube)
    py4DSTEM.save(tmp_path / "vacuum.h5", made.truth.probe)

    def step(kind: str, source: str, out: str, *more: object) -> None:
        done = cli("run", kind, tmp_path / source, "-o", tmp_path / out, *more)
        assert done.code == 0, done.err

    step("measure-probe", "vacuum.h5", "probe.h5")
    step("find-bragg-disks", "scan.h5", "peaks.h5", "--probe", f"@{tmp_path / 'probe.h5'}")
    step("measure-origin", "peaks.h5", "origin.h5")
    origin = ("--calibration", tmp_path / "origin.h5")
    step("fit-lattice", "peaks.h5", "lattice.h5", *origin)
    np.save(tmp_path / "reference.npy", made.truth.reference)
    reference = ("--reference", f"@{tmp_path / 'reference.npy'}")
    step("strain-map", "lattice.h5", "strain.h5", *reference)
    strain = py4DSTEM.read(tmp_path / "strain.h5")
    for name in ("e_xx", "e_yy", "e_xy", "theta"):
        error = getattr(strain, name) - getattr(made.truth, name)
        assert np.abs(error).max() < 2e-3, name
    for name in ("probe", "peaks", "origin", "lattice", "strain"):
        figure = tmp_path / f"{name}.png"
        assert cli("view", tmp_path / f"{name}.h5", "-o", figure).code == 0 and figure.exists()


# ---- view ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_view_draws_results(suffix: str, cli: Cli, peaks_file: Path) -> None:
    out = peaks_file.with_suffix(suffix)
    done = cli("view", peaks_file, "-o", out)
    assert (done.code, done.out) == (0, f"{out}\n"), done.err
    start = out.read_bytes()[:100]
    assert any(sign in start for sign in (b"\x89PNG", b"%PDF", b"<?xml"))


def test_view_keeps_values_of_results(cli: Cli, peaks_file: Path) -> None:
    out = peaks_file.with_suffix(".csv")
    assert cli("view", peaks_file, "-o", out).code == 0
    assert out.read_text().startswith("rx,ry,qx,qy,intensity")


def test_view_of_several_results_asks_which(cli: Cli, peaks: BraggPeaks, tmp_path: Path) -> None:
    py4DSTEM.save(tmp_path / "two.h5", {"a": peaks, "b": peaks})
    done = cli("view", tmp_path / "two.h5", "-o", tmp_path / "a.png")
    assert done.code == 2 and "--dataset" in done.err
    args = ("view", tmp_path / "two.h5", "--dataset", "b", "-o", tmp_path / "a.png")
    assert cli(*args).code == 0


def test_a_result_is_read_without_its_module(shell: Any, peaks_file: Path) -> None:
    """Whatever the file holds, its type is found."""
    code = (
        "import sys\nimport py4DSTEM\nfrom py4DSTEM import api\n"
        "from py4DSTEM.io.store import schema\n"
        "schema._RESULTS.clear()\nsys.modules.pop('py4DSTEM.process.bragg.peaks', None)\n"
        f"print(type(py4DSTEM.read({str(peaks_file)!r})).__name__)"
    )
    done = shell(code=code)
    assert done.out.strip() == "BraggPeaks", done.err
