"""Notebook views: complete, escaped, and never reading a lazy array."""

import re

import numpy as np
import pytest

from py4DSTEM import (
    Calibration,
    DataCube,
    DiffractionSlice,
    History,
    Metadata,
    PointTable,
    RealSlice,
)
from py4DSTEM.core.html import THUMBNAIL_BYTES, readable_bytes, thumbnail_png

ATTACK = '<script>alert("x")</script><img src=x onerror=alert(1)>'


class Untouchable:
    """A lazy array that must not be read."""

    shape = (4, 5, 6, 7)
    dtype = np.dtype(np.uint16)

    def __getitem__(self, key):
        raise RuntimeError("the data were read")


def _calibrated():
    return Calibration().replace(
        R_pixel_size=2, R_pixel_units="nm", Q_pixel_size=(0.01, 0.02), Q_pixel_units="A^-1",
        origin_px=(3, 4), ellipse=(1.1, 1, 0.2), rotation_rad=0.3, flip=True, energy_eV=2e5,
        semiangle_mrad=2.5, probe_radius_px=4,
    )  # fmt: skip


def test_lazy_cube_is_described_without_reading_it():
    html = DataCube(Untouchable(), _calibrated(), "scan")._repr_html_()
    for part in ("Rx 4 × 2 nm", "Qy 7 × 0.02 Å⁻¹", "uint16", "lazy", "a/b = 1.1000", "200 keV"):
        assert part in html
    assert "<img" not in html


def test_cube_in_memory_has_a_thumbnail_and_says_what_is_missing(tmp_path):
    data = np.arange(4 * 5 * 6 * 7, dtype=np.uint16).reshape(4, 5, 6, 7)
    html = DataCube(data)._repr_html_()
    assert "missing: scan step, detector pixel, origin" in html
    assert "in memory" in html and "mean of 16 patterns" in html
    np.save(tmp_path / "a.npy", data)
    mapped = DataCube(np.load(tmp_path / "a.npy", mmap_mode="r")[1:])._repr_html_()
    assert "memory-mapped" in mapped and "<img" not in mapped


def test_strings_from_files_are_escaped():
    metadata = Metadata(
        title=ATTACK, source=ATTACK, format=ATTACK, notes=(ATTACK,), original={"a": {ATTACK: 1}}
    )
    history = History().then(ATTACK, {ATTACK: ATTACK})
    calibration = Calibration().replace(R_pixel_size=1, R_pixel_units=ATTACK)
    cube = DataCube(np.ones((2, 2, 3, 3)), calibration, ATTACK, history, metadata)
    image = RealSlice(np.ones((2, 3, 3)), calibration, history, ATTACK, (ATTACK, "b"), ATTACK)
    point = np.zeros(1, dtype=[(ATTACK, "f8")])
    table = PointTable.from_lists([[point]], calibration=calibration, name=ATTACK)
    for value in (cube, image, table, metadata, history, calibration):
        html = value._repr_html_()
        assert "<script" not in html and "onerror=alert(1)>" not in html
        assert re.findall(r"<img(?! alt)", html) == []
        assert "&lt;script&gt;" in html


@pytest.mark.parametrize("kind", [RealSlice, DiffractionSlice])
@pytest.mark.parametrize(
    "data",
    [
        np.full((3, 4), np.nan),
        np.zeros((3, 4)),
        np.ones((2, 3, 4)),
        np.zeros((0, 4)),
        np.ones((1, 500)),
        np.array([[np.inf, 1.0], [np.nan, 2.0]]),
        np.tile([np.inf, -np.inf], (100, 100)),
        np.ones((3, 4), complex),
        np.ones((3, 4), bool),
    ],
)
def test_every_image_has_a_view(kind, data):
    html = kind(data, name="image")._repr_html_()
    assert "image" in html and kind.__name__ in html


def test_thumbnails_are_small():
    noise = np.random.default_rng(1).normal(size=(517, 300))
    png = thumbnail_png(noise)
    assert png is not None and len(png) <= THUMBNAIL_BYTES
    from io import BytesIO

    from PIL import Image

    assert max(Image.open(BytesIO(png)).size) <= 96
    assert thumbnail_png(np.zeros((2, 3, 4))) is None


def test_short_reprs():
    assert "scan step 2 nm" in repr(_calibrated())
    assert repr(Calibration()) == "<Calibration of nothing yet>"
    assert repr(History().then("a").then("b")) == "<History a → b>"
    assert repr(Metadata(title="t", notes=("n",))) == "<Metadata title='t', 1 notes>"
    varying = Calibration(origin_px=np.zeros((2, 3, 2)))
    assert "one per position (2, 3)" in repr(varying)


def test_readable_bytes():
    assert [readable_bytes(n) for n in (12, 1234, 5_000_000_000_000)] == ["12 B", "1.23 kB", "5 TB"]
