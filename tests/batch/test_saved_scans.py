"""Steps whose result is a whole scan, and the picture of the scan itself."""

from __future__ import annotations

import json
import threading
import tracemalloc
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from batchkit import RECIPE, assert_same, write_scan

import py4DSTEM
from py4DSTEM import DataCube
from py4DSTEM.batch import worker
from py4DSTEM.batch.overview import PREVIEW, Overview
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.lazy import LazyArray
from py4DSTEM.recipe.model import all_steps
from py4DSTEM.recipe.physics import made_by
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.step import _REGISTRY

Image = pytest.importorskip("PIL.Image", reason="matplotlib brings it")

CLEANED = """schema = 1
[[step]]
use = "less-one"
name = "cleaned"
[[step]]
use = "mean-pattern"
name = "mean"
of = "cleaned"
[[step]]
use = "calibration"
name = "origin"
origin_px = [4.0, 5.0]
[output]
report = false
"""


@pytest.fixture
def less_one() -> Any:
    """A step that makes a scan, lazily."""

    class LessOne(Analysis, kind="less-one", version=1):
        """Take one count from every pixel that has one."""

        accepts: ClassVar[tuple[type, ...]] = (Cube,)

        def apply(self, value: Cube, options: RunOptions | None = None) -> Cube:
            return py4DSTEM.subtract_dark(value, np.ones(value.Q_shape), clip_negative=True)

    known = (all_steps, made_by)  # remembered, perhaps, from before there was this step
    for remembered in known:
        remembered.cache_clear()
    yield LessOne
    del _REGISTRY["less-one"]
    for remembered in known:
        remembered.cache_clear()


class Told:
    """What the worker says."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, event: str, **values: Any) -> None:
        self.events.append((event, values))

    @property
    def end(self) -> dict[str, Any]:
        return self.events[-1][1]

    @property
    def done(self) -> list[str]:
        return [v["name"] for e, v in self.events if e == "step" and v["state"] == "done"]


def work(text: str, source: Path, folder: Path, **job: Any) -> Told:
    told = Told()
    worker.process(worker.Job(text, str(source), str(folder), **job), told, threading.Event())
    return told


def result(folder: Path, name: str) -> Path:
    (found,) = folder.glob(f"{name}-*/result.h5")
    return found


@pytest.mark.usefixtures("less_one")
def test_a_scan_is_saved_lazily_and_used_from_there(tmp_path: Path) -> None:
    source = write_scan(tmp_path / "a.h5")
    told = work(CLEANED, source, tmp_path / "out")
    assert told.end["state"] == "done", told.end
    saved = py4DSTEM.read(result(tmp_path / "out", "cleaned"))
    raw = np.asarray(py4DSTEM.read(source).data[...]).astype(float)
    assert isinstance(saved, DataCube) and isinstance(saved.data, LazyArray)
    np.testing.assert_array_equal(np.asarray(saved.data[...]), np.clip(raw - 1, 0, None))
    mean = py4DSTEM.read(result(tmp_path / "out", "mean"))
    np.testing.assert_allclose(mean.data, np.clip(raw - 1, 0, None).mean(axis=(0, 1)))


@pytest.mark.usefixtures("less_one")
def test_a_saved_scan_is_not_made_again(tmp_path: Path) -> None:
    source, out = write_scan(tmp_path / "a.h5"), tmp_path / "out"
    work(CLEANED, source, out)
    before = result(out, "cleaned").stat().st_mtime_ns
    kept = np.asarray(py4DSTEM.read(result(out, "mean")).data)
    told = work(CLEANED, source, out, again=("mean",))
    assert told.done == ["mean"] and result(out, "cleaned").stat().st_mtime_ns == before
    np.testing.assert_array_equal(py4DSTEM.read(result(out, "mean")).data, kept)


@pytest.mark.usefixtures("less_one")
def test_half_a_scan_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = write_scan(tmp_path / "a.h5"), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(py4DSTEM, "save", lambda path, *_, **__: _broken_off(path))
        told = work(CLEANED, source, out)
    assert told.end["cause"] == "disk" and not list(out.glob("cleaned-*"))
    told = work(CLEANED, source, out)
    assert told.done == ["cleaned", "mean", "origin"] and not list(out.rglob("*.part-*"))


def _broken_off(path: Path) -> None:
    Path(path).write_bytes(b"half")
    raise OSError(28, "No space left on device", str(path))


@pytest.mark.usefixtures("less_one")
def test_a_saved_scan_is_never_whole_in_memory(tmp_path: Path) -> None:
    patterns = np.random.default_rng(0).poisson(3, (40, 30, 64, 60)).astype(np.uint16)
    source = tmp_path / "a.h5"
    py4DSTEM.save(source, DataCube(patterns))
    nbytes = patterns.nbytes
    del patterns
    text = CLEANED.split('[[step]]\nuse = "mean')[0] + "[output]\nreport = false\n"
    work(text, source, tmp_path / "warm")
    tracemalloc.start()
    try:
        told = work(text, source, tmp_path / "out", memory_bytes=None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    saved = py4DSTEM.read(result(tmp_path / "out", "cleaned"))
    assert told.end["state"] == "done" and peak < saved.nbytes and saved.nbytes >= nbytes


def test_the_input_is_not_copied_unless_asked(tmp_path: Path) -> None:
    text = """schema = 1
[[step]]
use = "calibrate-origin"
name = "centred"
calibrates = true
[output]
report = false
"""
    source = write_disks(tmp_path / "a.h5")
    told = work(text, source, tmp_path / "all")
    assert told.end["state"] == "done", told.end
    assert not list((tmp_path / "all").glob("centred-*/result.h5"))
    (record,) = (tmp_path / "all").glob("centred-*/step.json")
    assert json.loads(record.read_text())["result"] is None
    asked = text.replace("report = false", 'report = false\nsave = ["centred"]')
    assert work(asked, source, tmp_path / "asked").end["state"] == "done"
    saved = py4DSTEM.read(result(tmp_path / "asked", "centred"))
    np.testing.assert_array_equal(saved.data[...], py4DSTEM.read(source).data[...])
    assert saved.calibration.origin_px is not None


# ---- the picture ---------------------------------------------------------------------------------
def write_disks(path: Path) -> Path:
    """A disk whose brightness is that of the place, and a haze outside that is the opposite."""
    i, j = np.indices((24, 28))
    disk = np.hypot(i - 11, j - 15) < 5
    place = np.arange(12.0).reshape(3, 4, 1, 1)
    data = np.where(disk, 200 + 20 * place, 60 - 3 * place).astype(np.uint16)
    py4DSTEM.save(path, DataCube(data))
    return path


def test_the_picture_is_the_bright_field_of_the_same_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(
        "py4DSTEM.batch.overview.write_preview",
        lambda value, path: (drawn.append(value), Path(path).write_bytes(b""))[0],
    )
    text = RECIPE.replace("report = false", "report = true")
    source = write_disks(tmp_path / "a.h5")
    told = work(text, source, tmp_path / "out")
    assert told.end["state"] == "done", told.end
    ((image, mean),) = drawn
    disk = py4DSTEM.Disk(5, center=(11, 15))
    wanted = py4DSTEM.read(source).virtual_image(disk).data
    assert image.shape == (3, 4) and np.corrcoef(image.data.ravel(), wanted.ravel())[0, 1] > 0.999
    np.testing.assert_allclose(image.data, wanted, rtol=0.1)
    assert mean.shape == (24, 28)
    assert (tmp_path / "out" / PREVIEW).exists()


def test_results_have_the_same_bits_with_and_without_the_picture(tmp_path: Path) -> None:
    scan = py4DSTEM.simulate.strained_lattice((5, 6), (40, 44), dose=3000, seed=1)
    py4DSTEM.save(tmp_path / "a.h5", scan.cube)
    text = RECIPE.replace("center = [4, 5], radius = 3", "center = [20, 21], radius = 7.3")
    for name in ("true", "false"):
        (tmp_path / f"{name}.toml").write_text(text.replace("report = false", f"report = {name}"))
        py4DSTEM.run_recipe(tmp_path / f"{name}.toml", [tmp_path / "a.h5"], tmp_path / name)
    assert_same(tmp_path / "true", tmp_path / "false")
    assert len(list((tmp_path / "true").glob(f"files/*/{PREVIEW}"))) == 1
    assert not list((tmp_path / "false").glob(f"files/*/{PREVIEW}"))


def test_without_a_pass_the_picture_is_of_a_grid_of_positions(tmp_path: Path) -> None:
    text = """schema = 1
[[step]]
use = "calibration"
name = "known"
origin_px = [11, 15]
"""
    source, folder = write_disks(tmp_path / "a.h5"), tmp_path / "out"
    assert work(text, source, folder).end["state"] == "done"
    with Image.open(folder / PREVIEW) as found:
        assert found.width > 100
    image = Overview(py4DSTEM.read(source))._coarse(None)
    assert image is not None and image.shape == (3, 4) and (np.diff(image.data.ravel()) > 0).all()


@pytest.mark.parametrize("value", [0, np.nan], ids=["dark", "undefined"])
def test_without_a_beam_there_is_still_a_picture(value: float, tmp_path: Path) -> None:
    source = tmp_path / "a.h5"
    py4DSTEM.save(source, DataCube(np.full((2, 3, 8, 10), value, np.float32)))
    text = RECIPE.replace("report = false", "report = true")
    assert work(text, source, tmp_path / "out").end["state"] == "done"
    with Image.open(tmp_path / "out" / PREVIEW) as found:
        assert found.width > 100


def test_the_picture_follows_the_input(tmp_path: Path) -> None:
    text = RECIPE.replace("report = false", "report = true")
    source, folder = write_disks(tmp_path / "a.h5"), tmp_path / "out"
    stamp = work(text, source, folder).events[0][1]["stamp"]
    before = (folder / PREVIEW).read_bytes()
    turned = np.asarray(py4DSTEM.read(source).data[...])[::-1, ::-1]
    py4DSTEM.save(source, DataCube(turned.copy()))
    work(text, source, folder, stamp=stamp)
    assert (folder / PREVIEW).read_bytes() != before
