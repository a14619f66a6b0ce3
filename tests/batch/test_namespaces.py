"""Dask workers with a network of their own each, as on machines of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from batchkit import FAULTY, RECIPE, assert_same, free_port, write_scan

from py4DSTEM.batch.rundir import RunDirectory
from py4DSTEM.batch.runner import run_recipe

distributed = pytest.importorskip("distributed")

HERE, THERE = "10.231.17.1", ("10.231.17.2", "10.231.17.3")


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no network namespaces here: ip {' '.join(words)}: {done.stderr.strip()}")


@pytest.fixture
def namespaces() -> Iterator[tuple[str, ...]]:
    """Two, each joined to a bridge of this machine by a cable."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root, and the program ip")
    bridge, names = f"br{os.getpid()}", tuple(f"em{k}-{os.getpid()}" for k in range(2))
    with ExitStack() as undo:

        def made(*words: str, end: tuple[str, ...]) -> None:
            ip(*words)
            undo.callback(subprocess.run, ["ip", *end], capture_output=True, check=False)

        made("link", "add", bridge, "type", "bridge", end=("link", "del", bridge))
        ip("addr", "add", f"{HERE}/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        for k, (name, address) in enumerate(zip(names, THERE, strict=True)):
            made("netns", "add", name, end=("netns", "del", name))
            plug = f"v{k}-{os.getpid()}"
            made("link", "add", plug, "type", "veth", "peer", "name", "eth0", "netns", name,
                 end=("link", "del", plug))  # fmt: skip
            ip("link", "set", plug, "master", bridge, "up")
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Any]:
    """Starts programs, which end with the test."""
    environment = {**os.environ, "STAGE_LOG": str(tmp_path / "stages"), "SLOW_STEP_S": "0.5"}
    with ExitStack() as ends:

        def start(program: str, *words: str, within: str = "") -> subprocess.Popen[bytes]:
            where = ["ip", "netns", "exec", within] if within else []
            process = subprocess.Popen(
                [*where, sys.executable, "-c", f"{FAULTY}; {program}; main()", *words],
                env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            ends.callback(process.wait)
            ends.callback(process.kill)
            return process

        yield start


def test_a_worker_elsewhere_is_killed_while_it_works(
    namespaces: tuple[str, ...], started: Any, tmp_path: Path
) -> None:
    scans = [write_scan(tmp_path / f"s{k}.h5", k) for k in range(5)]
    recipe = tmp_path / "look.toml"
    recipe.write_text(RECIPE)
    run_recipe(recipe, scans, tmp_path / "calm")
    address = f"tcp://{HERE}:{free_port()}"
    started("from distributed.cli.dask_scheduler import main",
            "--host", address, "--no-dashboard", "--no-show")  # fmt: skip
    workers = [
        started("from distributed.cli.dask_worker import main", address, "--nthreads", "1",
                "--no-nanny", "--no-dashboard", "--host", there, within=name)
        for name, there in zip(namespaces, THERE, strict=True)
    ]  # fmt: skip
    with distributed.Client(address, timeout=60, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        killed: list[float] = []

        def kill(done: int, total: int, label: str) -> None:
            if done == 1 and not killed:
                workers[0].kill()
                killed.append(time.monotonic())

        summary = run_recipe(recipe, scans, tmp_path / "out", client=client, progress=kill)
        assert len(killed) == 1 and len(client.nthreads()) == 1
    assert [row.state for row in summary.files] == ["done"] * 5
    assert_same(tmp_path / "calm", tmp_path / "out")
    begun = len((tmp_path / "stages").read_text().splitlines())
    assert begun - 10 <= 1
    assert all(row.attempts == 1 for row in RunDirectory(tmp_path / "out").files())
