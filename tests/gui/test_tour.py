"""The tour does what it says, on simulated data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def window(qtbot: Any, session: Any) -> Iterator[Any]:
    from py4DSTEM.gui.preferences import Preferences
    from py4DSTEM.gui.window import MainWindow

    made = MainWindow(session, Preferences(), safe=True)
    qtbot.addWidget(made, before_close_func=lambda window: window.stop())
    made.show()
    yield made
    made.stop()


@pytest.fixture
def tour(window: Any) -> Any:
    window.actions_.trigger("help.tour")
    return window.actions_.room("help")._tour


def test_from_the_first_card_to_the_last(qtbot: Any, window: Any, tour: Any, session: Any) -> None:
    from pyqtgraph.Qt import QtCore

    from py4DSTEM.gui.tour import STOPS

    troubles: list[Any] = []
    window.troubles.shown.connect(troubles.append)
    assert tour.isVisible() and not tour.isModal()
    for at in range(1, len(STOPS)):
        qtbot.mouseClick(tour.next, QtCore.Qt.MouseButton.LeftButton)
        qtbot.waitUntil(lambda at=at: tour.at == at and tour.ready, timeout=120_000)
        qtbot.waitUntil(tour.next.isEnabled, timeout=60_000)
        assert [f"{t.title}: {t.what}" for t in troubles] == []
    scan = session.project.scan
    assert {"bragg", "lattice", "strain"} <= {result.name for result in scan.results}
    assert "origin" in {layer.name for layer in scan.layers}
    strain = scan.result("strain").value
    assert strain.mask.mean() > 0.9
    qtbot.mouseClick(tour.next, QtCore.Qt.MouseButton.LeftButton)
    assert not tour.isVisible() and not tour.frame.isVisible()


def test_the_frame_is_around_what_is_spoken_of(qtbot: Any, window: Any, tour: Any) -> None:
    tour.go(2)
    qtbot.waitUntil(tour.frame.isVisible, timeout=10_000)
    dock = window.docks.docks["diffraction"]
    assert tour.frame.size() == dock.size()
    window.resize(1100, 700)
    qtbot.waitUntil(lambda: tour.frame.size() == dock.size(), timeout=10_000)
    tour.close()
    assert not tour.frame.isVisible()


def test_back_undoes_nothing_and_stays_inside(qtbot: Any, tour: Any, session: Any) -> None:
    tour.go(3)
    tour.go(tour.at - 1)
    assert tour.at == 2
    assert session.history.acts == () or list(session.history.acts) == []
    tour.go(-4)
    assert tour.at == 0 and not tour.back.isEnabled()
    tour.go(400)
    assert tour.next.text() == "Close"


def test_a_step_that_fails_can_be_tried_again(qtbot: Any, window: Any, tour: Any) -> None:
    tour.go(5)  # nothing is open: there is nothing to search
    assert not tour.ready
    qtbot.waitUntil(lambda: tour.next.text() == "Try again", timeout=10_000)
    assert tour.next.isEnabled()
