"""Projects in files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from state_scans import Bench, all_kinds, analysed, assert_same, cube, imaged, saved

import py4DSTEM
from py4DSTEM import Calibration, CorruptFile, Ellipse, FormatError, RawLayout, StoreError
from py4DSTEM.gui.state.commands import AddLayer, AddResult, AddScan, ChangeLook, RemoveResult
from py4DSTEM.gui.state.project import Layer, Look, Project, Result, Scan, Source
from py4DSTEM.gui.state.store import load_project, save_project
from py4DSTEM.process.calibrate.origin_fit import OriginMeasurement


def plain(project: Project) -> Any:
    return project.model_dump()


def test_everything_comes_back(tmp_path: Path) -> None:
    bench = analysed(saved())
    bench.do(RemoveResult, name="probe")
    bench.undo.do(ChangeLook(panel="real", look=Look(scale=0.5, limits=(1.0, 2.0))))
    assert save_project(tmp_path / "a.p4d", bench.project) == ()
    found = load_project(tmp_path / "a.p4d")
    assert plain(found.project) == plain(bench.project)
    assert (found.cubes, found.missing, found.notes) == ({}, {}, ())
    for old, new in zip(bench.scan.results, found.project.scans[0].results, strict=True):
        assert_same(new.value, old.value)
    before = bench.scan.calibrated(bench.raw.calibration)
    assert found.project.scans[0].calibrated(bench.raw.calibration) == before
    assert isinstance(found.project.scans[0].layers[1].value, OriginMeasurement)


def test_bare_arrays_maps_and_calibrations_come_back_exactly(tmp_path: Path) -> None:
    bench = imaged(saved())
    origins = np.random.default_rng(0).normal(size=(6, 7, 2))
    changes = {"origin_px": origins, "ellipse": Ellipse(1.0, 0.9, 0.3)}
    bench.do(AddLayer, layer=Layer(name="map", changes=changes))
    bench.do(AddLayer, layer=Layer(name="whole", value=Calibration(rotation_rad=0.1)))
    bench.do(AddResult, result=Result(name="bare", value=np.arange(6.0).reshape(2, 3)))
    save_project(tmp_path / "a.p4d", bench.project)
    scan = load_project(tmp_path / "a.p4d").project.scans[0]
    assert scan.layer("map").changes["origin_px"].tobytes() == origins.tobytes()
    assert scan.layer("map").changes["ellipse"] == Ellipse(1.0, 0.9, 0.3)
    assert scan.layer("whole").value == Calibration(rotation_rad=0.1)
    assert isinstance(scan.result("bare").value, np.ndarray)
    assert scan.result("bare").value.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_scans_from_memory_are_in_the_file(tmp_path: Path) -> None:
    project = Project(scans=(Scan(key="scan7", name="simulated"),), current="scan7")
    save_project(tmp_path / "a.p4d", project, {"scan7": cube()})
    found = load_project(tmp_path / "a.p4d")
    assert np.array_equal(np.asarray(found.cubes["scan7"].data), np.asarray(cube().data))
    assert found.cubes["scan7"].calibration == cube().calibration


def test_scans_from_files_are_not_in_the_file(tmp_path: Path) -> None:
    bench = imaged(saved())
    save_project(tmp_path / "a.p4d", bench.project, {"scan1": bench.raw})
    assert load_project(tmp_path / "a.p4d").cubes == {}


def test_how_a_raw_file_is_read_comes_back(tmp_path: Path) -> None:
    layout = RawLayout(dtype=">u2", Q_shape=(3, 4))
    source = Source(path=str(tmp_path / "x.raw"), options={"layout": layout, "scan_shape": (5, 6)})
    save_project(tmp_path / "a.p4d", Project(scans=(Scan(key="s", name="x", source=source),)))
    found = load_project(tmp_path / "a.p4d").project.scans[0]
    assert found.source == source
    assert found.source.options["layout"] == layout


def test_a_folder_that_was_moved(tmp_path: Path) -> None:
    (tmp_path / "old" / "data").mkdir(parents=True)
    path = shutil.copy(saved(), tmp_path / "old" / "data" / "x.h5")
    save_project(tmp_path / "old" / "a.p4d", Bench(Path(path)).project)
    shutil.move(tmp_path / "old", tmp_path / "new")
    found = load_project(tmp_path / "new" / "a.p4d")
    assert found.project.scans[0].source.path == str(tmp_path / "new" / "data" / "x.h5")
    assert not found.missing
    # The project alone: its scan is still where it was.
    shutil.move(tmp_path / "new" / "a.p4d", tmp_path / "a.p4d")
    (tmp_path / "old" / "data").mkdir(parents=True)
    shutil.copy(saved(), path)
    assert load_project(tmp_path / "a.p4d").project.scans[0].source.path == str(path)


def test_a_scan_that_is_gone_is_said_and_its_results_are_there(tmp_path: Path) -> None:
    path = Path(shutil.copy(saved(), tmp_path / "x.h5"))
    bench = Bench(path)
    value = bench.step("mean", all_kinds()["mean-pattern"]())
    save_project(tmp_path / "a.p4d", bench.project)
    os.remove(path)
    found = load_project(tmp_path / "a.p4d")
    assert found.missing == {"scan1": str(path)}
    assert "missing" in found.notes[0]
    assert_same(found.project.scans[0].result("mean").value, value)


def test_what_cannot_be_kept_is_said(tmp_path: Path) -> None:
    class Odd:
        def calibration_changes(self) -> dict[str, Any]:
            return {"flip": True}

    bench = imaged(saved())
    bench.do(AddResult, result=Result(name="odd", value=object()))
    bench.do(AddLayer, layer=Layer(name="odd", value=Odd()))
    notes = save_project(tmp_path / "a.p4d", bench.project)
    assert len(notes) == 2
    assert "'odd'" in notes[0]
    found = load_project(tmp_path / "a.p4d")
    assert found.notes == notes
    assert found.project.scans[0].calibrated(Calibration()).flip
    assert found.project.scans[0].result("odd").value is None


def test_saving_again_replaces_the_file(tmp_path: Path) -> None:
    undo = Bench(saved()).undo
    save_project(tmp_path / "a.p4d", undo.project)
    undo.do(AddScan(scan=Scan(key="scan2", name="two")))
    save_project(tmp_path / "a.p4d", undo.project)
    assert len(load_project(tmp_path / "a.p4d").project.scans) == 2


def test_an_empty_project(tmp_path: Path) -> None:
    save_project(tmp_path / "a.p4d", Project())
    assert load_project(tmp_path / "a.p4d").project == Project()


def test_files_that_are_no_projects(tmp_path: Path) -> None:
    py4DSTEM.save(tmp_path / "a.h5", np.arange(3))
    py4DSTEM.save(tmp_path / "b.h5", {"project": np.arange(3), "x": np.arange(2)})
    py4DSTEM.save(tmp_path / "c.h5", {"project": np.frombuffer(b"[1]", np.uint8)})
    (tmp_path / "d.p4d").write_bytes(b"nonsense")
    for name in ("a.h5", "b.h5", "c.h5", "d.p4d", "none.p4d"):
        with pytest.raises(FormatError):
            load_project(tmp_path / name)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"schema": 1', b'"schema": 9'),
        (b'"scans"', b'"scens"'),
        (b'"key"', b'"kex"'),
        (b"{", b"["),
    ],
)
def test_damaged_text_is_said(tmp_path: Path, old: bytes, new: bytes) -> None:
    save_project(tmp_path / "a.p4d", imaged(saved()).project)
    text = py4DSTEM.read(tmp_path / "a.p4d")
    text = text["project"] if isinstance(text, dict) else text
    raw = np.frombuffer(text.data.tobytes().replace(old, new), np.uint8)
    py4DSTEM.save(tmp_path / "a.p4d", {"project": raw})
    with pytest.raises(FormatError) as caught:
        load_project(tmp_path / "a.p4d")
    assert isinstance(caught.value, CorruptFile) or "later version" in str(caught.value)


def test_a_result_that_is_gone_from_the_file_takes_only_itself(tmp_path: Path) -> None:
    bench = analysed(saved())
    save_project(tmp_path / "a.p4d", bench.project)
    parts = {k: v for k, v in py4DSTEM.read(tmp_path / "a.p4d").items() if k != "results/scan1/2"}
    py4DSTEM.save(tmp_path / "a.p4d", parts)
    found = load_project(tmp_path / "a.p4d")
    assert "'lattice'" in found.notes[0]
    assert found.project.scans[0].result("lattice").value is None
    assert found.project.scans[0].result("strain/map").value is not None


def test_nothing_is_written_where_it_cannot(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        save_project(tmp_path / "no" / "a.p4d", Project())
    assert list(tmp_path.iterdir()) == []


def test_a_repaired_scan_comes_back_and_is_saved_again(tmp_path: Path) -> None:
    """It is in no file but the project, and read from there while that is written anew."""
    bad = np.zeros(cube().Q_shape, bool)
    bad[3, 4] = True
    repaired = py4DSTEM.repair_pixels(py4DSTEM.read(saved(), dataset="scan"), bad)
    project = Project(scans=(Scan(key="scan2", name="repaired"),), current="scan2")
    path = tmp_path / "a.p4d"
    assert save_project(path, project, {"scan2": repaired}) == ()
    for _ in range(2):
        found = load_project(path)
        assert found.project.scans[0].name == "repaired" and not found.notes
        assert save_project(path, found.project, found.cubes) == ()
    again = load_project(path).cubes["scan2"]
    np.testing.assert_array_equal(np.asarray(again.data), np.asarray(repaired.data))


def test_scans_that_are_too_large_for_the_project_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from py4DSTEM.gui.state import store

    monkeypatch.setattr(store, "LARGEST", cube().nbytes - 1)
    project = Project(scans=(Scan(key="scan2", name="large"),), current="scan2")
    (note,) = save_project(tmp_path / "a.p4d", project, {"scan2": cube()})
    assert "'large'" in note and "too large" in note
    found = load_project(tmp_path / "a.p4d")
    assert found.cubes == {} and note in found.notes
