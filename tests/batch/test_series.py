"""Several files as one experiment: sorted, stacked and followed along what changes."""

import csv
import io
import math

import numpy as np
import pytest
from madekit import made

from py4DSTEM import (
    ArrayResult,
    Axis,
    Calibration,
    ParameterError,
    RealSlice,
    ShapeError,
    StrainMap,
)
from py4DSTEM.batch.report import write_report
from py4DSTEM.batch.rundir import FileRow, RunDirectory
from py4DSTEM.batch.series import Series, stacked
from py4DSTEM.batch.summary import FileSummary, summaries
from py4DSTEM.report.page import Page, html_page

__all__ = ["made"]


def table(tmp_path, text):
    path = tmp_path / "series.csv"
    path.write_text(text, encoding="utf-8")
    return path


def summary(source, **numbers):
    record = {"numbers": numbers}
    return FileSummary(FileRow(source, source, "done"), {"step": record})


# ---- the table -----------------------------------------------------------------------------------
def test_from_csv(tmp_path):
    series = Series.from_csv(
        table(tmp_path, "\ufefffile, tilt (deg), time [s]\nb.h5, 20, 1\n\na.h5, -10, 2.5\n")
    )
    assert series.files == ("a.h5", "b.h5")
    assert series.parameters["tilt"].tolist() == [-10, 20]
    assert series.parameters["time"].tolist() == [2.5, 1]
    assert series.units == {"tilt": "deg", "time": "s"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: the head"),
        ("file\na\n", ":1: the head"),
        ("name,tilt\na,1\n", ":1: the head"),
        ("file,tilt\n", "at least one file"),
        ("file,tilt\na,1\nb\n", ":3: 1 cells, the head has 2"),
        ("file,tilt\na,1\na,2\n", ":3: a file is named twice"),
        ("file,tilt\n,1\n", ":2: no file"),
        ("file,tilt\na,warm\n", ":2: tilt must be a number, not 'warm'"),
        ("file,tilt\na,nan\n", ":2: tilt must be a number"),
        ("file,tilt\na,inf\n", ":2: tilt must be a number"),
    ],
)
def test_wrong_tables_are_told_by_line(tmp_path, text, message):
    with pytest.raises(ParameterError) as error:
        Series.from_csv(table(tmp_path, text))
    assert message in str(error.value)


def test_unreadable_table(tmp_path):
    with pytest.raises(ParameterError, match="cannot be read"):
        Series.from_csv(tmp_path / "none.csv")
    (tmp_path / "bad.csv").write_bytes(b"file,x\n\xff,1\n")
    with pytest.raises(ParameterError, match="cannot be read"):
        Series.from_csv(tmp_path / "bad.csv")


def test_mappings():
    series = Series.from_mapping({"a": {"t": 2, "T": 5.0}, "b": {"t": 1, "T": 6.0}})
    assert series.files == ("b", "a") and series.parameters["T"].tolist() == [6, 5]
    with pytest.raises(ParameterError, match="has the parameters"):
        Series.from_mapping({"a": {"t": 2}, "b": {"u": 1}})
    with pytest.raises(ParameterError, match="must be a number"):
        Series.from_mapping({"a": True})
    with pytest.raises(ParameterError, match="at least one"):
        Series.from_mapping({})
    with pytest.raises(ParameterError, match="once"):
        Series(("a", "a"), {"t": np.array([1.0, 2.0])}, {})
    with pytest.raises(ParameterError, match="one finite number"):
        Series(("a",), {"t": np.array([1.0, 2.0])}, {})


def test_which_file_an_input_is():
    series = Series.from_mapping({"a": 1, "b.h5": 2, "x/c.h5": 3})
    found = series.places(["/d/a.h5", "/d/b.h5", "/d/x/c.h5", "/d/y/c.h5", "/d/other.h5"])
    assert found == {"/d/a.h5": 0, "/d/b.h5": 1, "/d/x/c.h5": 2}
    with pytest.raises(ParameterError, match="two inputs are 'a'"):
        series.places(["/d/a.h5", "/e/a.h5"])


# ---- stacks --------------------------------------------------------------------------------------
def image(value, step=2.0, **more):
    calibration = Calibration().replace(R_pixel_size=step, R_pixel_units="nm")
    return RealSlice(np.full((2, 3), float(value)), calibration, **more)


def test_images():
    stack = stacked([image(1), image(2)], [10, 20.5], axis=("tilt", "deg"), files=["a", "b"])
    assert type(stack) is RealSlice and stack.shape == (2, 2, 3)
    assert stack["tilt = 20.5 deg"].data[0, 0] == 2 and stack.calibration.R[0].step == 2
    step = stack.history.steps[-1]
    assert step.parameters["values"] == [10, 20.5] and step.parameters["files"] == ["a", "b"]


def test_equal_values_can_still_be_told_apart():
    stack = stacked([image(1), image(2), image(3)], [5, 5, 6])
    assert stack.labels == ("value = 5 (no. 0)", "value = 5 (no. 1)", "value = 6")


def test_calibrations_of_their_own_are_not_those_of_all():
    other = image(2)
    other = other.with_calibration(origin_px=(1.0, 2.0))
    stack = stacked([image(1), other], [1, 2])
    assert stack.calibration.origin_px is None and stack.calibration.R[0].unit == "nm"
    kept = stacked([other, other], [1, 2])
    assert kept.calibration == other.calibration


def test_stacks_of_images_and_strain():
    parts = [RealSlice(np.full((2, 2, 3), k), labels=("bf", "df")) for k in (1, 2)]
    found = stacked(parts, [1, 2])
    assert set(found) == {"bf", "df"} and found["df"].data[:, 0, 0].tolist() == [1, 2]
    e = np.full((2, 3), 0.01)
    strain = [StrainMap(k * e, e, e, e, np.zeros((2, 3, 4, 4)), e > 0, np.eye(2)) for k in (1, 2)]
    maps = stacked(strain, [100, 200], axis=("temperature", "K"))
    assert maps["e_xx"].data[:, 1, 2].tolist() == [0.01, 0.02]
    assert maps["theta"].labels == ("temperature = 100 K", "temperature = 200 K")


def test_arrays_get_an_axis():
    parts = [ArrayResult(np.arange(4.0) + k, (Axis("q", 0.1, 0.0, "A^-1"),)) for k in range(3)]
    even = stacked(parts, [1.0, 1.5, 2.0], axis=("time", "s"))
    assert even.shape == (3, 4) and even.axes[0] == Axis("time", 0.5, 1.0, "s")
    assert even.axes[1].unit == "A^-1"
    assert stacked(parts, [1, 2, 4]).axes[0] == Axis("number")
    assert stacked(parts[:1], [1]).axes[0] == Axis("number")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (RealSlice(np.zeros((3, 2))), "b has the shape"),
        (image(1, step=2.1), "b has other pixel sizes than a"),
        (ArrayResult(np.zeros((2, 3))), "b has a ArrayResult, a a RealSlice"),
    ],
)
def test_unlike_results_are_not_stacked(other, message):
    with pytest.raises(ShapeError, match=message):
        stacked([image(1), other], [1, 2], files=["a", "b"])


def test_what_cannot_be_stacked():
    with pytest.raises(ParameterError, match="a dict cannot be stacked"):
        stacked([{}, {}], [1, 2])
    with pytest.raises(ParameterError, match="1 results for 2 values"):
        stacked([image(1)], [1, 2])
    with pytest.raises(ParameterError, match="0 results"):
        stacked([], [])


# ---- trends --------------------------------------------------------------------------------------
def test_trends_follow_the_truth():
    series = Series.from_mapping({"c": 30, "a": 10, "b": 20, "d": 40}, "temperature", "K")
    found = [summary(f"/x/{n}.h5", e_xx_median=0.1 * t + 1, positions=5.0)
             for n, t in (("a", 10), ("c", 30), ("b", 20))]  # fmt: skip
    trends = series.trends([*found, summary("/x/other.h5", e_xx_median=99.0)])
    assert trends.columns["step.e_xx_median"][:3].tolist() == pytest.approx([2, 3, 4])
    assert trends.states == ("done", "done", "done", "no input")
    slope, sigma = trends.slope("step.e_xx_median")
    assert slope == pytest.approx(0.1) and sigma == pytest.approx(0, abs=1e-12)
    assert trends.shown == ("step.e_xx_median",), "numbers that stay the same are not plotted"
    rows = list(csv.DictReader(io.StringIO(trends.csv())))
    assert [r["temperature (K)"] for r in rows] == ["10.0", "20.0", "30.0", "40.0"]
    assert rows[3]["step.e_xx_median"] == "" and rows[0]["step.positions"] == "5.0"


def test_uncertainty_of_a_slope():
    """Its scatter over repetitions is what it says."""
    rng = np.random.default_rng(5)
    series = Series.from_mapping({f"f{k}": k for k in range(8)}, "t")
    slopes, sigmas = [], []
    for _ in range(300):
        noise = rng.normal(0, 0.5, 8)
        found = [summary(f"f{k}", image_mean=3.0 * k + noise[k]) for k in range(8)]
        slope, sigma = series.trends(found).slope("step.image_mean")
        slopes.append(slope)
        sigmas.append(sigma)
    assert np.mean(slopes) == pytest.approx(3, abs=0.02)
    assert np.std(slopes) == pytest.approx(np.sqrt(np.mean(np.square(sigmas))), rel=0.12)


def test_too_few_values_have_no_slope():
    series = Series.from_mapping({"a": 1, "b": 1, "c": 2}, "t")
    trends = series.trends([summary("a", image_mean=1.0), summary("b", image_mean=2.0)])
    assert all(map(math.isnan, trends.slope("step.image_mean")))
    both = series.trends([summary("a", image_mean=1.0), summary("c", image_mean=3.0)])
    slope, sigma = both.slope("step.image_mean")
    assert slope == 2 and math.isnan(sigma)


def test_section_of_the_report():
    series = Series.from_mapping({"a": 1, "b": 2}, "dose", "e/A2")
    flat = html_page(Page("t", (series.trends([]).section(),)))
    assert "2 files from 1 to 2 e/A2 (dose)." in flat and "No number" in flat
    found = [summary("a", image_mean=1.0), summary("b", image_mean=4.0)]
    html = html_page(Page("t", (series.trends(found).section(),)))
    assert "change per e/A2" in html and html.count("<img ") == 1


def test_series_of_a_run(made):
    for k, name in enumerate(("a", "b", "c")):
        made.file(name, source=f"/data/{name}.h5")
        made.step(name, "mean", RealSlice(np.full((2, 3), 1.0 + k)))
    series = Series.from_mapping({"a": 3, "b": 2, "missing": 1}, "tilt", "deg")
    run = RunDirectory(made.folder)
    stack = series.stacked(run, "mean")
    assert stack.data[:, 0, 0].tolist() == [2, 1] and stack.labels[0] == "tilt = 2 deg"
    with pytest.raises(ParameterError, match="no file of the series has a result 'nothing'"):
        series.stacked(run, "nothing")
    assert series.trends(summaries(run)).states == ("no input", "done", "done")
    page = write_report(made.folder, series=series).read_text(encoding="utf-8")
    assert "<h2>Series</h2>" in page and "change per deg" in page
    assert (made.folder / "series.csv").read_text(encoding="utf-8").startswith("file,tilt (deg),")
