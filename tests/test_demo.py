"""The demo does the main job on a known scan, and tells the truth about it."""

import math

import pytest

import py4DSTEM
from py4DSTEM.demo import Check, run_demo


def test_checks_are_honest():
    assert Check.of("equal", 1, 1, 0).passed
    assert Check.of("near", 1.1, 1, 0.2).passed
    assert not Check.of("far", 1.3, 1, 0.2).passed
    assert not Check.of("undefined", math.nan, 1, 0.2).passed


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return run_demo(tmp_path_factory.mktemp("parent") / "out", seed=3)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(py4DSTEM.StoreError, match="Choose another"):
        run_demo(tmp_path / "file" / "out")


def test_every_check_passes(demo):
    assert [check.name for check in demo.checks if not check.passed] == []
    assert demo.passed and len(demo.checks) >= 12
    assert demo.seconds < 60


def test_files_can_be_used(demo):
    names = [path.name for path in demo.paths]
    assert names[:2] == ["scan.h5", "results.h5"] and names[-1] == "report.html"
    assert all(path.stat().st_size > 0 for path in demo.paths)
    assert py4DSTEM.read(demo.paths[0]).shape == (32, 32, 128, 128)
    results = py4DSTEM.read(demo.paths[1])
    assert results["virtual images"].labels == ("bf", "adf", "df_10")


def test_report_stands_alone(demo):
    html = demo.paths[-1].read_text(encoding="utf-8")
    assert html.count("data:image/png;base64,") == 3
    assert "<script" not in html and "checks passed; simulated with seed 3" in html
    assert all(check.name in html for check in demo.checks)
