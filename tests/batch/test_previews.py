"""There is a picture of everything, and it is small."""

import io

import numpy as np
import pytest

from py4DSTEM import DataCube, DiffractionSlice, PointTable, RealSlice
from py4DSTEM.batch.previews import picture, thumbnail, write_preview

Image = pytest.importorskip("PIL.Image", reason="matplotlib brings it")


class Broken:
    """A result of which nothing can be had."""

    def __array__(self, *_, **__):
        raise RuntimeError("no array")

    def __repr__(self):
        raise RuntimeError("no words")


ODD = [
    RealSlice(np.full((3, 4), np.nan)),
    RealSlice(np.array([[np.inf, -np.inf, 1.0]])),
    RealSlice(np.zeros((0, 3))),
    DiffractionSlice(np.ones((2, 5, 3), complex)),
    PointTable(np.zeros(0, [("qx", "f8"), ("qy", "f8")]), np.zeros(7, np.int64), (2, 3)),
    DataCube(np.zeros((1, 2, 4, 3), np.uint8)),
    np.zeros((2, 2, 2, 2, 2)),
    {},
    None,
    "words\n" * 100,
    Broken(),
]


@pytest.mark.parametrize("value", ODD, ids=lambda v: type(v).__name__)
def test_everything_has_a_picture(value, tmp_path):
    write_preview(value, tmp_path / "preview.png")
    with Image.open(tmp_path / "preview.png") as found:
        assert found.format == "PNG" and 40 < found.width <= 600


def test_the_picture_is_that_of_the_result():
    left = picture(RealSlice(np.repeat([[1.0, 0.0]], 4, axis=0).repeat(4, axis=1)))
    right = picture(RealSlice(np.repeat([[0.0, 1.0]], 4, axis=0).repeat(4, axis=1)))
    assert left.shape == right.shape and (left != right).any()


def test_no_backend_is_changed_and_no_figure_stays():
    from matplotlib import pyplot as plt

    before = plt.get_fignums()
    picture(RealSlice(np.eye(4)))
    picture(Broken())
    assert plt.get_fignums() == before


def test_thumbnails_are_small():
    data = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    Image.fromarray(noise).save(data, "png")
    small = thumbnail(data.getvalue(), 200)
    with Image.open(io.BytesIO(small)) as found:
        assert found.size == (200, 150)
    assert len(small) < 40_000
    with Image.open(io.BytesIO(thumbnail(small, 900))) as found:
        assert found.size == (200, 150)


def test_what_is_no_picture_is_told():
    with pytest.raises(OSError, match="identify"):
        thumbnail(b"no picture")
