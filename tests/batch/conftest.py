"""Runs of tiny files, with workers that fail on request."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from batchkit import RECIPE, write_scan

from py4DSTEM.batch import pool, runner


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Twelve scans, never changed."""
    folder = tmp_path_factory.mktemp("scans")
    return tuple(write_scan(folder / f"s{k:02d}.h5", k) for k in range(12))


@pytest.fixture
def scans(many: tuple[Path, ...]) -> tuple[Path, ...]:
    """Three of them."""
    return many[:3]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Three steps in two stages."""
    path = tmp_path / "look.toml"
    path.write_text(RECIPE)
    return path


class WarmPool(pool.Pool):
    """Workers that serve one test after the other: a new one takes seconds to import things."""

    def __exit__(self, *what: object) -> None:
        for worker in self.busy():
            self.drop(worker)
        while not self.events.empty():
            self.events.get()


@pytest.fixture(scope="session")
def warm() -> Iterator[WarmPool]:
    shared = WarmPool(2)
    yield shared
    for worker in shared.workers:
        worker.kill()


@pytest.fixture(autouse=True)
def _lanes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "faulty" in request.fixturenames:
        return
    shared = request.getfixturevalue("warm")
    usual = runner._lanes

    def lanes(settings: runner.RunSettings, client: object) -> pool.Pool:
        if client is not None:
            return usual(settings, client)
        workers = settings.workers
        shared.size = workers
        for extra in shared.workers[workers:]:
            shared.drop(extra)
        return shared

    monkeypatch.setattr(runner, "_lanes", lanes)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that do what the name of a file says: hang, crash, eat, slow."""
    script = Path(__file__).with_name("faulty_worker.py")
    monkeypatch.setattr(pool, "COMMAND", (sys.executable, str(script)))
