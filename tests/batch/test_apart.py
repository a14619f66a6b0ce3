"""Runs that go on when the program that began them ends."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from batchkit import RECIPE, assert_same, write_scan

from py4DSTEM.batch import apart
from py4DSTEM.batch.apart import Order, observed, start, stop
from py4DSTEM.batch.lock import locked
from py4DSTEM.batch.runner import RunSettings, run_recipe
from py4DSTEM.errors import ParameterError


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_order_is_the_same_after_the_way() -> None:
    order = Order("schema = 1", ("a*.h5",), "out", RunSettings(workers=2, memory="4 GB"), "/x")
    assert Order.from_text(order.text()) == order


def test_a_run_apart_gives_the_same_and_outlives_who_began_it(
    recipe: Path, scans: tuple[Path, ...], tmp_path: Path
) -> None:
    out = tmp_path / "apart"
    order = Order(RECIPE, tuple(map(str, scans)), str(out), RunSettings(workers=1))
    begin = (
        "import sys; from py4DSTEM.batch.apart import Order, start; "
        "start(Order.from_text(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", begin, order.text()], check=True)
    until(lambda: (out / "run.toml").exists())
    until(lambda: not observed(out).owner and observed(out).ended == len(scans))
    assert observed(out).counts == {"done": 3, "failed": 0, "running": 0, "waiting": 0}
    run_recipe(recipe, scans, tmp_path / "here")
    assert_same(out, tmp_path / "here")
    until(lambda: not (out / ".apart").exists())


def test_it_can_be_stopped_and_goes_on(recipe: Path, tmp_path: Path) -> None:
    scans = [write_scan(tmp_path / f"s{k:02d}.h5", k) for k in range(40)]
    out = tmp_path / "out"
    order = Order(RECIPE, tuple(map(str, scans)), str(out), RunSettings(force=True))
    for now, code in ((False, 1), (True, 130)):
        run = start(order)
        until(lambda: (out / "state.sqlite").exists() and observed(out).counts["running"] > 0)
        stop(out, now=now)
        assert run.process.wait(60) == code and not run.trouble()
        seen = observed(out)
        assert not seen.owner and seen.counts["waiting"] > 0 and seen.counts["running"] == 0
        assert seen.sources("waiting")[-1] == str(scans[-1])
    assert len(run_recipe(recipe, scans, out, resume=True).done) == len(scans)


def test_what_cannot_be_run_is_told(tmp_path: Path) -> None:
    scan = str(write_scan(tmp_path / "a.h5"))
    wrong = start(
        Order(RECIPE.replace("mean-pattern", "mean-patern"), (scan,), str(tmp_path / "o"))
    )
    assert wrong.process.wait(60) == 2 and 'did you mean "mean-pattern"' in wrong.trouble()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")
    taken = start(Order(RECIPE, (scan,), str(tmp_path / "mine")))
    assert taken.process.wait(60) == 2 and "holds no run" in taken.trouble()
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def test_nobody_is_stopped_where_nobody_works(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="no run is at work"):
        stop(tmp_path)
    with pytest.raises(ParameterError, match="holds no run"):
        observed(tmp_path)


def test_a_run_of_a_terminal_is_stopped_by_its_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(apart.os, "kill", lambda *which: sent.append(which))
    with locked(tmp_path):
        stop(tmp_path)
        assert len(sent) == 1 and not (tmp_path / ".stop").exists()
        monkeypatch.setattr(apart.socket, "gethostname", lambda: "elsewhere")
        with pytest.raises(ParameterError, match="stop it there"):
            stop(tmp_path)
