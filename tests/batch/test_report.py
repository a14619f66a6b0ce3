"""The report holds every file, also those that failed, and opens without anything else."""

import csv
import io
import json
import re
import tomllib

import numpy as np
import pytest
from madekit import TEXT, Made, made

import py4DSTEM
from py4DSTEM import DataCube, History, ParameterError, RealSlice
from py4DSTEM.batch import report
from py4DSTEM.batch.previews import write_preview
from py4DSTEM.batch.report import write_report
from py4DSTEM.batch.rundir import RunDirectory
from py4DSTEM.batch.summary import summaries
from py4DSTEM.recipe.model import Recipe

__all__ = ["made"]
ATTACK = '"><script>alert(1)</script>'


# ---- a real run ----------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Two scans, one of them dim, and a file that is none."""
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(3)
    for name, mean in (("a", 10), ("b", 2)):
        data = rng.poisson(mean, (3, 4, 12, 10)).astype(np.uint16)
        py4DSTEM.save(folder / f"{name}.h5", DataCube(data))
    (folder / "c.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"broken" * 99)
    (folder / "recipe.toml").write_text(TEXT, encoding="utf-8")
    inputs = [folder / f"{name}.h5" for name in "abc"]
    py4DSTEM.run_recipe(folder / "recipe.toml", inputs, folder / "out", retries=0)
    write_report(folder / "out")
    return folder / "out"


def page_of(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


def rows_of(path):
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def test_page_of_a_run(real):
    html = page_of(real)
    assert html.startswith("<!doctype html>") and "3 files: 2 done, 1 failed." in html
    assert "Quality limits: 1 red." in html and "mean.image_mean" in html
    assert "A &lt;b&gt;look&lt;/b&gt;." in html
    assert not re.findall(r'(?:src|href)="(?!data:)', html)
    assert html.count("<img ") == 6, "the scan and both results of both files"


def test_summary(real):
    good, dim, broken = rows_of(real / "summary.csv")
    assert [r["state"] for r in (good, dim, broken)] == ["done", "done", "failed"]
    assert [r["quality"] for r in (good, dim, broken)] == ["ok", "red", ""]
    assert float(good["mean.image_mean"]) == pytest.approx(10, abs=0.5)
    assert float(dim["mean.image_mean"]) == pytest.approx(2, abs=0.3)
    assert broken["cause"] == "damaged" and broken["mean.image_mean"] == ""
    assert good["fingerprint"] != dim["fingerprint"] != ""


def test_errors(real):
    found = {(row["kind"], row["source"][-4:]) for row in rows_of(real / "errors.csv")}
    assert found == {("failed", "c.h5"), ("red", "b.h5")}


def test_methods_and_citations(real):
    text = (real / "methods.txt").read_text(encoding="utf-8")
    assert f"py4DSTEM {py4DSTEM.__version__}" in text and "numpy" in text
    assert "1. mean-pattern, version" in text and "2. center-of-mass, version" in text
    entries = (real / "CITATION.bib").read_text(encoding="utf-8")
    assert entries.startswith("@software{py4DSTEM,") and "10.1016/j.ultramic.2015.10.011" in entries


def test_provenance_is_complete(real):
    """Whoever finds a result alone can tell how it was made and make it again."""
    run = RunDirectory(real)
    row = run.files()[0]
    assert {step.name for step in row.steps} == {"mean", "com"}
    for step in row.steps:
        record = run.step_record(step)
        json.dumps(record, allow_nan=False)
        assert record["package"] == py4DSTEM.__version__
        assert record["version"] == record["history"]["steps"][-1]["version"] >= 1
        assert record["history"]["steps"][-1]["kind"] == record["use"] == step.use
        assert record["key"] == step.key and record["fingerprint"] == row.stamp
        assert record["source"] == row.source
        assert {"python", "numpy", "system", "host", "pid", "written"} <= record.keys()
        assert {"numpy", "scipy", "numba"} <= record["history"]["environment"].keys()
        assert record["seconds"] >= 0 and record["started"] > 1.6e9 and record["seeds"] == {}
        recipe = tomllib.loads(record["history"]["source"]["recipe"])
        assert recipe["step"][0]["use"] == "mean-pattern"
        assert record["step"]["use"] == step.use and record["warnings"] == []
        result = run.results(row)[step.name]
        assert result.history.steps[-1].kind == step.use


def test_made_again_it_says_the_same(real):
    before = page_of(real)
    write_report(real)
    assert page_of(real) == before


def test_only_a_run_has_a_report(tmp_path):
    with pytest.raises(ParameterError, match="holds no run"):
        write_report(tmp_path)


# ---- made by hand --------------------------------------------------------------------------------
def test_everything_from_files_is_escaped(made):
    history = History().then(ATTACK, {ATTACK: ATTACK}, cites=(ATTACK,))
    made.file("a", source=f"/data/{ATTACK}", note=ATTACK)
    made.step("a", "mean", RealSlice(np.ones((2, 3)), history=history, name=ATTACK))
    made.file("b", state="failed", error=ATTACK, cause=ATTACK)
    write_report(made.folder)
    assert "<script" not in page_of(made.folder)


def test_spreadsheets_compute_nothing(made):
    made.file("a", source="=1+1", state="failed", error="@SUM(A1)")
    write_report(made.folder)
    (row,) = rows_of(made.folder / "summary.csv")
    assert row["source"] == "'=1+1" and row["error"] == "'@SUM(A1)"


def test_a_run_that_is_still_at_work(made):
    made.file("a", state="running", seconds=None)
    made.file("b", state="waiting", seconds=None)
    write_report(made.folder)
    assert "2 files: 1 running, 1 waiting." in page_of(made.folder)
    assert (made.folder / "methods.txt").read_text(encoding="utf-8")


def test_a_run_without_files(made):
    write_report(made.folder)
    assert "0 files: none." in page_of(made.folder)


def test_damage_is_told_and_the_rest_is_shown(made):
    for name in ("a", "b"):
        made.file(name)
        path = made.step(name, "mean", RealSlice(np.full((2, 3), 9.0)))
    (path / "step.json").write_text("{", encoding="utf-8")
    (made.folder / "files" / "a" / "preview.png").write_bytes(b"half a picture")
    write_report(made.folder)
    html = page_of(made.folder)
    assert "the record of a step cannot be read" in html and "damaged picture" in html
    assert html.count("<img ") == 1
    assert {row["kind"] for row in rows_of(made.folder / "errors.csv")} == {"record", "yellow"}


def test_limits_of_an_override(tmp_path):
    text = TEXT + '\n[[override]]\nmatch = "b*"\nset = { "qc.mean.image_mean.min" = 1 }\n'
    run = Made(tmp_path / "out", text)
    for name in ("a", "b"):
        run.file(name)
        run.step(name, "mean", RealSlice(np.full((2, 3), 2.0)))
    run.state.close()
    assert [s.level for s in summaries(RunDirectory(run.folder))] == ["red", "ok"]


def test_a_hundred_inputs_fit(made, monkeypatch):
    """Pictures shrink until all of them fit; what still does not is left in its folder."""
    noise = np.random.default_rng(0).normal(size=(60, 70))
    made.file("f0")
    whole = made.step("f0", "mean", RealSlice(noise)) / "preview.png"
    for k in range(1, 8):
        made.file(f"f{k}")
        path = made.step(f"f{k}", "mean", RealSlice(np.eye(3)))
        (path / "preview.png").write_bytes(whole.read_bytes())
    monkeypatch.setattr(report, "IMAGE_BYTES", 8 * 12_000)
    write_report(made.folder)
    html = page_of(made.folder)
    assert html.count("<img ") == 8 and len(html) < 8 * 12_000 * 4 / 3 + 30_000
    monkeypatch.setattr(report, "IMAGE_BYTES", 8 * 100)
    write_report(made.folder)
    assert "<img " not in page_of(made.folder)
    assert "8 pictures left out" in page_of(made.folder)


def test_picture_of_the_scan(made):
    made.file("a")
    cube = DataCube(np.random.default_rng(0).poisson(5, (3, 4, 8, 9)).astype(np.uint8))
    write_preview(cube, made.folder / "files" / "a" / "preview.png")
    write_report(made.folder)
    assert 'alt="a: scan"' in page_of(made.folder)


def test_other_parameters_are_told(made):
    for name, edge in (("a", 1), ("b", 2), ("c", 1)):
        made.file(name)
        path = made.step(name, "mean", RealSlice(np.ones((2, 3))))
        record = json.loads((path / "step.json").read_text(encoding="utf-8"))
        (path / "step.json").write_text(json.dumps({**record, "step": {"edge_px": edge}}))
    write_report(made.folder)
    assert "1 other files had other parameters" in page_of(made.folder)


def test_recipe_is_one():
    assert Recipe.from_document(tomllib.loads(TEXT)).name == "look"
