"""The demo does the main job on a known scan, and tells the truth about it."""

import math

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import BraggPeaks
from py4DSTEM.demo import Check, run_demo
from py4DSTEM.demo.strain import matched
from py4DSTEM.simulate import strained_lattice


def test_checks_are_honest():
    assert Check.of("equal", 1, 1, 0).passed
    assert Check.of("near", 1.1, 1, 0.2).passed
    assert not Check.of("far", 1.3, 1, 0.2).passed
    assert not Check.of("undefined", math.nan, 1, 0.2).passed


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return run_demo(tmp_path_factory.mktemp("parent") / "out", seed=3)


def test_strangers_and_missing_disks_are_seen():
    truth = strained_lattice((3, 4), (96, 96), dose=None).truth
    perfect = truth.peaks()
    peaks = BraggPeaks(perfect.points, perfect.offsets, perfect.shape, Q_shape=(96, 96))
    assert matched(peaks, truth) == (1, 0)
    fewer = peaks.select(peaks.points["h"] != 0)
    assert matched(fewer, truth)[0] < 0.9 and matched(fewer, truth)[1] == 0
    peaks.points["qx"][::2] += 3
    assert matched(peaks, truth)[1] == pytest.approx(0.5, abs=0.01)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(py4DSTEM.StoreError, match="Choose another"):
        run_demo(tmp_path / "file" / "out")


def test_every_check_passes(demo):
    assert [check.name for check in demo.checks if not check.passed] == []
    assert demo.passed and len(demo.checks) >= 35
    assert demo.seconds < 120  # compilation included


def test_files_can_be_used(demo):
    names = [path.name for path in demo.paths]
    assert names[:2] == ["scan.h5", "results.h5"] and names[-1] == "report.html"
    assert all(path.stat().st_size > 0 for path in demo.paths)
    assert py4DSTEM.read(demo.paths[0]).shape == (32, 32, 128, 128)
    results = py4DSTEM.read(demo.paths[1])
    assert results["virtual images"].labels == ("bf", "adf", "df_10")
    strain = results["strain"]
    assert strain.mask.all() and np.isfinite(strain.covariance).all()
    kinds = [step.kind for step in strain.history.steps]
    assert kinds[-3:] == ["find-bragg-disks", "fit-lattice", "strain-map"]
    assert "10.1016/j.ultramic.2016.12.021" in strain.history.cite()


def test_report_stands_alone(demo):
    html = demo.paths[-1].read_text(encoding="utf-8")
    assert html.count("data:image/png;base64,") == 11
    assert "<script" not in html and "checks passed; simulated with seed 3" in html
    assert all(check.name in html for check in demo.checks)
