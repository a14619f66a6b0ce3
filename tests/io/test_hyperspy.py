"""To HyperSpy and back."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from py4DSTEM.core.calibration import Calibration, Ellipse
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.lazy import ScanOfFrames
from py4DSTEM.core.metadata import Metadata
from py4DSTEM.core.slices import DiffractionSlice, RealSlice
from py4DSTEM.errors import DependencyMissing, ParameterError, ShapeError
from py4DSTEM.io.frames import MemoryFrames
from py4DSTEM.io.hyperspy import from_hyperspy, to_hyperspy

pytestmark = pytest.mark.filterwarnings("ignore")
pytest.importorskip("hyperspy")

CALIBRATION = Calibration(energy_eV=200e3, semiangle_mrad=1.5).replace(
    R_pixel_size=(2.0, 3.0), R_pixel_units="nm", Q_pixel_size=(0.01, 0.02), Q_pixel_units="A^-1"
)


@pytest.fixture
def cube() -> Cube:
    data = np.arange(2 * 3 * 4 * 5, dtype=np.uint16).reshape(2, 3, 4, 5)
    metadata = Metadata(camera_length_mm=480.0, date="2024-01-02", original={"a": {"b": 1}})
    return Cube(data, CALIBRATION, "scan", metadata=metadata)


def test_axes_have_the_order_names_and_units_of_hyperspy(cube: Cube) -> None:
    signal = to_hyperspy(cube)
    axes = signal.axes_manager._axes
    assert [a.name for a in axes] == ["y", "x", "ky", "kx"]
    assert [a.scale for a in axes] == [2.0, 3.0, 0.01, 0.02]
    assert [a.units for a in axes] == ["nm", "nm", "1/Å", "1/Å"]
    assert [a.navigate for a in axes] == [True, True, False, False]
    assert signal.metadata.Acquisition_instrument.TEM.beam_energy == 200.0
    # HyperSpy's own indexing is column first.
    np.testing.assert_array_equal(signal.inav[2, 1].data, cube.data[1, 2])


def test_round_trip_keeps_everything(cube: Cube) -> None:
    origin = np.random.default_rng(1).normal(2, 0.1, (2, 3, 2))
    calibration = cube.calibration.replace(
        origin_px=origin, ellipse=Ellipse(1.1, 1.0, 0.3), rotation_rad=0.2, flip=True
    )
    back = from_hyperspy(to_hyperspy(cube.replace(calibration=calibration)))
    assert isinstance(back, Cube)
    np.testing.assert_array_equal(back.data, cube.data)
    assert back.calibration == calibration
    assert back.name == "scan"
    assert back.metadata.camera_length_mm == 480.0
    assert back.metadata.date == "2024-01-02"
    assert back.metadata.original == {"a": {"b": 1}}


def test_the_origin_becomes_the_zero_of_the_signal_axes(cube: Cube) -> None:
    moved = cube.replace(calibration=cube.calibration.replace(origin_px=(1.5, 2.0)))
    ky, kx = to_hyperspy(moved).axes_manager._axes[2:]
    assert ky.offset == pytest.approx(-0.015)
    assert kx.offset == pytest.approx(-0.04)


class Watched(MemoryFrames):
    reads = 0

    def read_frames(self, start: int, stop: int) -> np.ndarray:
        Watched.reads += 1
        return super().read_frames(start, stop)


def test_lazy_data_stay_lazy_both_ways(cube: Cube) -> None:
    stack = cube.data.reshape(6, 4, 5)
    lazy = cube.replace(data=ScanOfFrames(Watched(stack), (2, 3)))
    Watched.reads = 0
    signal = to_hyperspy(lazy)
    assert signal._lazy
    back = from_hyperspy(signal)
    assert Watched.reads == 0
    np.testing.assert_array_equal(np.asarray(back[1, 2].data), cube.data[1, 2])


@pytest.mark.parametrize("kind", [RealSlice, DiffractionSlice])
@pytest.mark.parametrize("labels", [(), ("a", "b")])
def test_slices_round_trip(kind: type, labels: tuple[str, ...]) -> None:
    shape = (2, 4, 5) if labels else (4, 5)
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    value = kind(data, CALIBRATION, name="image", labels=labels)
    back = from_hyperspy(to_hyperspy(value))
    assert type(back) is kind
    np.testing.assert_array_equal(back.data, data)
    assert back.axes == value.axes
    assert back.labels == labels


def test_signals_of_other_dimensions_are_refused() -> None:
    import hyperspy.api as hs

    with pytest.raises(ShapeError, match="two navigation"):
        from_hyperspy(hs.signals.Signal1D(np.zeros((2, 3, 4))))
    with pytest.raises(ShapeError, match="reshape"):
        from_hyperspy(hs.signals.Signal2D(np.zeros((2, 3, 4))))
    with pytest.raises(ParameterError, match="DataCube"):
        to_hyperspy(np.zeros((2, 2)))  # type: ignore[arg-type]


def test_invalid_scales_are_not_believed() -> None:
    import hyperspy.api as hs

    signal = hs.signals.Signal2D(np.zeros((2, 3, 4, 5)))
    for axis, scale in zip(signal.axes_manager._axes, (1.0, 1.0, -2.0, 0.0), strict=True):
        axis.scale, axis.units = scale, "nm"
    cube = from_hyperspy(signal)
    assert cube.calibration.Q_pixel_units == "px"
    assert any("refused" in note for note in cube.metadata.notes)


def test_without_hyperspy_the_message_says_how_to_get_it(cube: Cube, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "hyperspy.signals", None)
    with pytest.raises(DependencyMissing, match=r"pip install .*hyperspy"):
        to_hyperspy(cube)
