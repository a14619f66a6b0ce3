"""A bad night: broken files, killed workers, a killed runner (C1 and C2 in small)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from batchkit import RECIPE, Disturbed, assert_same, leftovers, write_scan

from py4DSTEM.batch.rundir import RunDirectory
from py4DSTEM.batch.runner import run_recipe

MEAN = 'schema = 1\n[[step]]\nuse = "mean-pattern"\nname = "mean"\n[output]\nreport = false\n'


@pytest.mark.usefixtures("faulty")
def test_a_hundred_files_of_which_twelve_are_bad(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    good = write_scan(tmp_path / "good.h5")
    names = [f"{k:03d}" for k in range(88)]
    broken = [f"broken{k}" for k in range(10)]
    for name in [*names, *broken, "eat", "hang"]:
        shutil.copy(good, tmp_path / f"f{name}.h5")
    for k, name in enumerate(broken):
        path = tmp_path / f"f{name}.h5"
        data = bytearray(path.read_bytes())
        where = int(rng.integers(8, 600))
        path.write_bytes(data[: 90 * k] if k % 2 else bytes(where) + bytes(data[where:]))
    recipe = tmp_path / "mean.toml"
    recipe.write_text(MEAN)
    inputs = [tmp_path / "fhang.h5", str(tmp_path / "f*.h5")]
    done = run_recipe(
        recipe, inputs, tmp_path / "out", workers=2, memory="4 GB", timeout_s=15, retries=0
    )
    assert len(done.files) == 100 and len(done.done) == 88 and len(done.failed) == 12
    causes = {Path(row.source).stem: row.cause for row in done.failed}
    assert causes.pop("feat") == "memory" and causes.pop("fhang") == "timeout"
    assert set(causes.values()) == {"damaged"}
    assert all(row.error for row in done.failed)
    assert not leftovers(tmp_path / "out")


def test_a_scheduler_that_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    scans = [write_scan(tmp_path / f"s{k}.h5", k) for k in range(3)]
    recipe = tmp_path / "look.toml"
    recipe.write_text(RECIPE)
    run_recipe(recipe, scans, tmp_path / "calm")
    night = Disturbed(recipe, scans, tmp_path / "out", log=tmp_path / "stages", slow_s=0.4)
    assert night.run_without_scheduler(0.5) == 2
    assert night.said.strip() == (
        "error: the scheduler of the cluster is gone; start it, then go on with --resume "
        "(resume=True)"
    )
    states = [row.state for row in RunDirectory(tmp_path / "out").files()]
    assert set(states) <= {"done", "waiting"} and "waiting" in states
    assert night.run_on_cluster() == 0
    assert_same(tmp_path / "calm", tmp_path / "out")
    assert night.stages_again(stages=6) <= 1
    assert not night.orphans()


def test_killed_again_and_again(tmp_path: Path) -> None:
    scans = [write_scan(tmp_path / f"s{k}.h5", k) for k in range(3)]
    recipe = tmp_path / "look.toml"
    recipe.write_text(RECIPE)
    run_recipe(recipe, scans, tmp_path / "calm")
    night = Disturbed(recipe, scans, tmp_path / "out", log=tmp_path / "stages", slow_s=0.3)
    rng = np.random.default_rng(11)
    moments = [(victim, float(rng.uniform(0.1, 0.6))) for victim in ("runner", "worker", "runner")]
    assert night.run(moments[0]) != 0
    assert night.run(*moments[1:]) != 0
    assert night.run() == 0
    assert_same(tmp_path / "calm", tmp_path / "out")
    assert night.stages_again(stages=9) <= night.kills
    assert night.kills == 3
    assert not night.orphans()
    rows = RunDirectory(tmp_path / "out").files()
    assert [row.state for row in rows] == ["done"] * 3
    assert not [p for p in leftovers(tmp_path / "out") if not os.access(p, os.W_OK)]
