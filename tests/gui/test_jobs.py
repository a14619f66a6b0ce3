"""Jobs and lanes: progress, pause, cancel, and the latest request first."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("pyqtgraph", reason="the desktop program needs pyqtgraph and Qt")

from py4DSTEM.errors import Cancelled, ParameterError
from py4DSTEM.gui.jobs.lane import Answer, Lane
from py4DSTEM.gui.jobs.queue import Jobs
from py4DSTEM.stream.options import RunOptions


@pytest.fixture
def jobs(qtbot: Any) -> Iterator[Jobs]:
    made = Jobs()
    yield made
    made.stop()
    made.wait()


def steps(count: int, gate: threading.Event | None = None) -> Any:
    """Work that reports `count` steps and can be cancelled between them."""

    def work(options: RunOptions) -> str:
        for done in range(count):
            if gate is not None:
                gate.wait(5)
            if options.cancel.is_set():
                raise Cancelled("stopped")
            options.progress(done + 1, count, "steps")
        return "value"

    return work


def test_a_job_gives_its_value_in_the_gui_thread(jobs: Jobs, qtbot: Any) -> None:
    seen: list[Any] = []
    job = jobs.submit(
        "count", steps(3), done=lambda v: seen.append((v, threading.current_thread()))
    )
    qtbot.waitUntil(lambda: bool(seen))
    assert seen == [("value", threading.main_thread())]
    assert job.state == "done" and job.fraction == 1.0 and not job.active


def test_an_error_goes_to_whoever_asked(jobs: Jobs, qtbot: Any) -> None:
    def work(options: RunOptions) -> None:
        raise ParameterError("no")

    seen: list[BaseException] = []
    job = jobs.submit("fail", work, failed=seen.append)
    qtbot.waitUntil(lambda: bool(seen))
    assert isinstance(seen[0], ParameterError) and job.state == "failed" and job.detail == "no"


def test_cancel_stops_between_steps_and_calls_nobody(jobs: Jobs, qtbot: Any) -> None:
    gate, seen = threading.Event(), []
    job = jobs.submit("long", steps(1000, gate), done=seen.append, failed=seen.append)
    qtbot.waitUntil(lambda: job.state == "running")
    job.cancel()
    assert job.detail == "stopping"
    gate.set()
    qtbot.waitUntil(lambda: job.state == "cancelled")
    assert seen == []


def test_a_job_that_waits_is_cancelled_before_it_begins(jobs: Jobs, qtbot: Any) -> None:
    gate, ran = threading.Event(), []
    first = jobs.submit("first", steps(2, gate))
    second = jobs.submit("second", ran.append)
    second.cancel()
    gate.set()
    qtbot.waitUntil(lambda: second.state == "cancelled")
    assert first.state == "done" and ran == []


def test_pause_holds_the_work_and_goes_on(jobs: Jobs, qtbot: Any) -> None:
    gate, reached = threading.Event(), []

    def work(options: RunOptions) -> None:
        gate.wait(5)
        reached.append("before")
        options.cancel.is_set()  # waits here while paused
        reached.append("after")

    job = jobs.submit("pausing", work)
    qtbot.waitUntil(lambda: job.state == "running")
    job.pause()
    gate.set()
    qtbot.waitUntil(lambda: reached == ["before"])
    assert job.state == "paused"
    job.pause(False)
    qtbot.waitUntil(lambda: job.state == "done")
    assert reached == ["before", "after"]


def test_what_the_user_waits_for_overtakes_long_work(jobs: Jobs, qtbot: Any) -> None:
    gate, order = threading.Event(), []
    jobs.submit("long", steps(1, gate), done=lambda _: order.append("long"))
    jobs.submit("open", lambda _: None, done=lambda _: order.append("open"), at_once=True)
    qtbot.waitUntil(lambda: order == ["open"])
    gate.set()
    qtbot.waitUntil(lambda: order == ["open", "long"])


class Recorder:
    """A lane whose work waits for a gate, and what it answered."""

    def __init__(self, work: Any) -> None:
        self.answers: list[Answer] = []
        self.lane = Lane(work, "test")
        self.lane.answered.connect(self.answers.append)

    def values(self) -> list[Any]:
        return [a.value for a in self.answers if a.value is not None]


@pytest.fixture
def recorder(qtbot: Any) -> Iterator[Any]:
    made: list[Recorder] = []

    def make(work: Any) -> Recorder:
        made.append(Recorder(work))
        return made[-1]

    yield make
    for one in made:
        one.lane.stop()
        one.lane.wait()


def test_a_lane_answers_the_latest_and_drops_what_waited(recorder: Any, qtbot: Any) -> None:
    gate, begun = threading.Event(), threading.Event()

    def work(request: int) -> int:
        begun.set()
        gate.wait(5)
        return request

    one = recorder(work)
    one.lane.ask(0)
    assert begun.wait(5)
    for request in range(1, 50):
        one.lane.ask(request)
    gate.set()
    qtbot.waitUntil(lambda: one.lane.idle and len(one.answers) == 2)
    assert one.values() == [0, 49]
    assert one.answers[-1].number == one.lane.number == 50


def test_a_lane_stops_refining_when_something_newer_waits(recorder: Any, qtbot: Any) -> None:
    begun, gate = threading.Event(), threading.Event()

    def work(request: str) -> Iterator[str]:
        yield f"{request} coarse"
        begun.set()
        gate.wait(5)
        yield f"{request} exact"
        yield f"{request} never"

    one = recorder(work)
    one.lane.ask("a")
    assert begun.wait(5)
    one.lane.ask("b")
    gate.set()
    qtbot.waitUntil(lambda: bool(one.answers) and one.answers[-1].last and one.lane.idle)
    assert one.values() == ["a coarse", "a exact", "b coarse", "b exact", "b never"]


def test_the_error_of_a_request_is_its_answer(recorder: Any, qtbot: Any) -> None:
    def work(request: int) -> float:
        return 1 / request

    one = recorder(work)
    one.lane.ask(0)
    qtbot.waitUntil(lambda: len(one.answers) == 1)
    assert isinstance(one.answers[0].error, ZeroDivisionError)
    one.lane.ask(4)
    qtbot.waitUntil(lambda: one.values() == [0.25])


def test_rows_of_jobs_are_readable_where_it_is_narrow(qtbot: Any) -> None:
    from py4DSTEM.gui.views.jobs import JobsView

    jobs = Jobs(1)
    view = JobsView(jobs)
    qtbot.addWidget(view)
    view.resize(150, 200)
    view.show()
    job = jobs.submit("prepare the strained film for dragging", lambda _: None)
    qtbot.waitUntil(lambda: job.state == "done")
    row = view.rows[job.number]
    qtbot.waitUntil(lambda: row.time.text() == "0 s" and row.name.width() < 130)
    assert row.name.shown.endswith("…") and row.name.shown.startswith("prepare")
    assert row.name.geometry().right() < row.time.geometry().left()
    assert row.time.geometry().right() >= row.rect().right() - 8
    jobs.stop()
