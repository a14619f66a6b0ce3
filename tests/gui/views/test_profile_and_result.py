"""Profile and result panels show what the library gives for what the images show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyqtgraph", reason="the desktop program needs pyqtgraph and Qt")

from py4DSTEM import Calibration, DataCube, Disk, center_of_mass, mean_radial_profile
from py4DSTEM.core.axis import Axis
from py4DSTEM.core.detector import Mask
from py4DSTEM.core.slices import DiffractionSlice, RealSlice
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.stage import Picture
from py4DSTEM.gui.state.commands import CloseScan
from py4DSTEM.gui.views.profile import RULER, ProfilePanel
from py4DSTEM.gui.views.result_panel import KINDS, ResultPanel
from py4DSTEM.process.cepstrum import cepstrum
from py4DSTEM.process.deflection import deflection
from py4DSTEM.process.idpc import integrate_center_of_mass
from py4DSTEM.process.line_profile import line_profile
from py4DSTEM.process.live.view import DetectorView
from py4DSTEM.process.spectrum import power_spectrum

CALIBRATION = Calibration(
    R=(Axis("Rx", 2.0, 0, "A"), Axis("Ry", 2.0, 0, "A")),
    Q=(Axis("Qx", 0.05, 0, "A^-1"), Axis("Qy", 0.05, 0, "A^-1")),
    origin_px=np.array([15.0, 18.0]),
)


@pytest.fixture(scope="module")
def cube() -> DataCube:
    rng = np.random.default_rng(7)
    disk = Disk(5, center=(15, 18)).weights((32, 36), Calibration())
    data = rng.poisson(40 * disk + 1, (9, 11, 32, 36)).astype(np.uint16)
    return DataCube(data, CALIBRATION, name="tiny")


@pytest.fixture
def session(qtbot: Any, cube: DataCube) -> Iterator[Session]:
    made = Session(workers=2)
    made.add_cube(cube, "tiny")
    qtbot.waitUntil(lambda: made.project.scan is not None, timeout=20000)
    pattern = DiffractionSlice(cube.data[4, 5].astype(float), CALIBRATION)
    made.stage.show("diffraction", pattern)
    made.stage.show("real", RealSlice(cube.data.sum((2, 3)).astype(float), CALIBRATION))
    yield made
    made.close()


def shown(qtbot: Any, panel: Any) -> Any:
    qtbot.addWidget(panel)
    panel.resize(420, 300)
    with qtbot.waitExposed(panel):
        panel.show()
    return panel


def test_radial_profile(session: Session, qtbot: Any) -> None:
    panel = shown(qtbot, ProfilePanel(session))
    qtbot.waitUntil(lambda: panel.curve is not None)
    expected = mean_radial_profile(session.stage.showing["diffraction"])
    np.testing.assert_array_equal(panel.curve.values, expected.data)
    np.testing.assert_array_equal(panel.curve.distance, expected.q)
    x, _ = panel.line.getOriginalDataset()
    np.testing.assert_array_equal(x, expected.q)
    text = panel.text_at(0.251)
    assert "q = 0.25 Å⁻¹" in text and "1/q = 4 Å" in text and f"{expected.data[5]:.4g}" in text
    panel.log.click()
    assert not panel.line.opts["logMode"][1]


def test_profile_follows_the_pattern(session: Session, qtbot: Any) -> None:
    panel = shown(qtbot, ProfilePanel(session))
    qtbot.waitUntil(lambda: panel.curve is not None)
    flat = DiffractionSlice(np.full((20, 30), 7.0))
    with qtbot.waitSignal(panel.drawn, check_params_cb=lambda c: c.unit == "px"):
        session.stage.show("diffraction", flat)
    known = panel.curve.values[np.isfinite(panel.curve.values)]
    assert np.allclose(known, 7.0) and "no origin" in panel.curve.about


def test_line_profile(session: Session, qtbot: Any) -> None:
    panel = shown(qtbot, ProfilePanel(session))
    panel.set_mode("line on scan")
    ruler = session.stage.overlays["real", RULER]
    with qtbot.waitSignal(panel.drawn, check_params_cb=lambda c: c.unit == "A" and c.values[0] > 0):
        ruler.moved((1.0, 2.0), (7.0, 9.0))
    qtbot.waitUntil(lambda: panel._lane.idle)
    expected = line_profile(session.stage.showing["real"], (1, 2), (7, 9))
    qtbot.waitUntil(lambda: np.array_equal(panel.curve.values, expected.data))
    assert session.stage.overlays["real", RULER].stop == (7.0, 9.0)
    panel.set_mode("radial")
    assert ("real", RULER) not in session.stage.overlays


def expected_of(kind: str, session: Session, cube: DataCube) -> Any:
    scan = session.project.scan
    showing = session.stage.showing
    if kind == "fft":
        return power_spectrum(showing["real"]).data
    if kind == "ewpc":
        return cepstrum(showing["diffraction"]).data
    known = session.calibration(scan.key)
    weights = scan.detectors[0].shape.weights(cube.Q_shape, known)
    com = center_of_mass(cube.replace(calibration=known), Mask(weights))
    if kind == "icom":
        return integrate_center_of_mass(com).data
    found = deflection(com).data
    parts = {"com_x": np.real, "com_y": np.imag, "com_length": np.abs}
    return parts[kind](found) if kind in parts else found


@pytest.mark.parametrize("kind", KINDS)
def test_results_are_those_of_the_library(
    kind: str, session: Session, cube: DataCube, qtbot: Any
) -> None:
    session.data(session.project.current).live.build()
    panel = shown(qtbot, ResultPanel(session))
    panel.set_kind(kind)
    qtbot.waitUntil(lambda: panel._making.idle and panel.image is not None)
    expected = expected_of(kind, session, cube)
    qtbot.waitUntil(lambda: panel.image.shape == expected.shape)
    qtbot.waitUntil(lambda: np.allclose(panel.image, expected, rtol=1e-9, atol=1e-12))
    assert panel.wheel.isVisible() == (kind == "dpc") and panel.exact
    assert session.stage.showing["result"].data is not None


def test_large_results_are_coloured_too(session: Session, qtbot: Any) -> None:
    panel = shown(qtbot, ResultPanel(session))
    large = np.zeros((1030, 1020))
    large[1000, 3] = 1.0
    session.stage.put("result", "x", Picture(RealSlice(large)))
    qtbot.waitUntil(lambda: panel.canvas.pixels.grid_shape == large.shape)
    session.stage.put("result", "x", None)
    qtbot.waitUntil(lambda: panel.canvas.pixels.grid_shape == (9, 11))


def test_result_says_why_there_is_none(session: Session, qtbot: Any) -> None:
    panel = shown(qtbot, ResultPanel(session))
    qtbot.waitUntil(lambda: panel.image is not None)
    session.stage.show("real", RealSlice(np.full((9, 11), np.nan)))
    qtbot.waitUntil(lambda: panel.image is None)
    assert "no finite value" in panel.row.title.text()


def test_pictures_of_panels_come_first(session: Session, qtbot: Any) -> None:
    panel = shown(qtbot, ResultPanel(session))
    qtbot.waitUntil(lambda: panel.image is not None)
    picture = np.arange(12.0).reshape(3, 4)
    session.stage.put("result", "x", Picture(RealSlice(picture), "mine"))
    assert panel.image is picture and panel.row.title.text() == "mine"
    session.stage.put("result", "x", None)
    qtbot.waitUntil(lambda: panel.image is not picture)
    session.do(CloseScan(key=session.project.current))
    assert panel.image is None


@pytest.mark.parametrize("kind", ["com_x", "icom"])
def test_results_become_exact_when_the_mouse_rests(
    kind: str, session: Session, cube: DataCube, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caches give every other row and column here: the engine gives the rest."""
    from dataclasses import replace

    from py4DSTEM.gui.state.commands import ChangeDetector

    data = session.data(session.project.current)
    whole, passes = type(data.live).center_of_mass, []
    exactly = DetectorView.exact

    def coarse(self: Any, weights: Any = None) -> Any:
        found = whole(self, weights)
        rows, columns = found.rows[::2], found.columns[::2]
        images = found.images[:, ::2, ::2]
        return replace(found, images=images, rows=rows, columns=columns, exact=False)

    monkeypatch.setattr(type(data.live), "center_of_mass", coarse)
    monkeypatch.setattr(
        DetectorView, "exact", lambda *given: passes.append(given) or exactly(*given)
    )
    data.live.build()
    panel = shown(qtbot, ResultPanel(session))
    panel.set_kind(kind)
    qtbot.waitUntil(lambda: panel._making.idle and panel.exact and panel.image is not None)
    np.testing.assert_allclose(panel.image, expected_of(kind, session, cube), atol=1e-12)
    panel.refresh()  # nothing has changed: nothing is measured again
    qtbot.waitUntil(lambda: panel._making.idle)
    assert len(passes) == 1 and panel.exact
    scan = session.project.scan
    entry = scan.detectors[0]
    for radius, settled in ((3.0, False), (4.0, False), (4.0, True)):
        shape = replace(entry.shape, radius=radius)
        session.do(ChangeDetector(key=scan.key, name=entry.name, shape=shape, settled=settled))
        session.stage.show("real", session.stage.showing["real"])
        qtbot.waitUntil(lambda: panel._making.idle and not panel._follow.resting)
        assert (len(passes) == 2) == settled
    qtbot.waitUntil(lambda: panel.exact)
    np.testing.assert_allclose(panel.image, expected_of(kind, session, cube), atol=1e-12)
