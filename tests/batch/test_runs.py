"""Runs: what is computed, what is computed again, what fails and how it is said."""

from __future__ import annotations

import json
import os
import resource
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from batchkit import assert_same, contents, leftovers, times, write_scan

import py4DSTEM
from py4DSTEM.batch.dry import dry_run
from py4DSTEM.batch.inputs import find_inputs
from py4DSTEM.batch.lock import locked, owner
from py4DSTEM.batch.rundir import RunDirectory
from py4DSTEM.batch.runner import (
    RunSettings,
    limits_of,
    memory_cap,
    run_recipe,
    with_settings,
)
from py4DSTEM.errors import CorruptFile, ParameterError, StoreError
from py4DSTEM.recipe.read import read_recipe, recipe_from_text

Scans = tuple[Path, ...]


def test_results_are_those_of_the_library(recipe: Path, scans: Scans, tmp_path: Path) -> None:
    done = run_recipe(recipe, scans, tmp_path / "out")
    assert [row.state for row in done.files] == ["done"] * 3
    assert done.computed == 9
    directory = RunDirectory(tmp_path / "out")
    for source, row in zip(scans, directory.files(), strict=True):
        cube = py4DSTEM.read(source)
        results = directory.results(row)
        assert set(results) == {"mean", "images", "image"}
        np.testing.assert_array_equal(results["mean"].data, py4DSTEM.mean_pattern(cube).data)
        inside = np.hypot(*(np.indices((8, 10)) - np.array([4, 5]).reshape(2, 1, 1))) <= 3
        counts = np.asarray(cube.data)[..., inside].sum(axis=-1)
        assert (
            abs(results["image"].data / counts - 2).max() < 0.2
        )  # pixels at the rim count in part
    record = directory.step_record(directory.files()[0].steps[0])
    assert record["use"] == "mean-pattern" and record["package"] == py4DSTEM.__version__
    assert json.loads(json.dumps(record)) == record
    assert not leftovers(tmp_path / "out")


def test_any_number_of_workers_gives_the_same_bits(
    recipe: Path, many: Scans, tmp_path: Path
) -> None:
    for workers in (1, 2):
        run_recipe(recipe, many[:5], tmp_path / f"out{workers}", workers=workers)
    assert len(contents(tmp_path / "out1")) == 5
    assert_same(tmp_path / "out1", tmp_path / "out2")


def test_resume_computes_only_what_would_differ(recipe: Path, many: Scans, tmp_path: Path) -> None:
    out = tmp_path / "out"
    scans = [Path(shutil.copy2(path, tmp_path / path.name)) for path in many[:3]]
    run_recipe(recipe, scans, out)
    with pytest.raises(ParameterError, match="holds a run: --resume"):
        run_recipe(recipe, scans, out)
    assert run_recipe(recipe, scans, out, resume=True).computed == 0
    write_scan(scans[1], seed=77)  # another input
    again = run_recipe(recipe, scans, out, resume=True)
    assert again.computed == 3
    assert [row.note for row in again.files] == [
        "",
        "the input has changed since it was computed",
        "",
    ]
    recipe.write_text(recipe.read_text().replace("2 * bf", "3 * bf"))
    assert run_recipe(recipe, scans, out, resume=True).computed == 3  # "image" of each
    fresh = tmp_path / "fresh"
    run_recipe(recipe, scans, fresh)
    assert_same(out, fresh)
    assert run_recipe(recipe, scans, out, force=True).computed == 9


def test_lost_and_damaged_results_are_made_again(
    recipe: Path, scans: Scans, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    rows = run_recipe(recipe, scans, out).files
    shutil.rmtree(rows[0].steps[2].path)  # image
    shutil.rmtree(rows[1].steps[2].path)
    (rows[1].steps[1].path / "result.h5").write_bytes(b"broken")  # images, which image is made of
    (out / "state.sqlite").unlink()
    again = run_recipe(recipe, scans, out, resume=True)
    assert again.computed == 3
    assert len(again.done) == 3
    run_recipe(recipe, scans, tmp_path / "fresh")
    assert_same(out, tmp_path / "fresh")


@pytest.mark.parametrize("left", [b"", b"not a database" * 400], ids=["empty", "damaged"])
def test_a_state_that_is_not_whole(left: bytes, recipe: Path, scans: Scans, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_recipe(recipe, scans, out)
    (out / "state.sqlite").write_bytes(left)
    if left:
        with pytest.raises(CorruptFile, match=r"Remove it, then --resume"):
            run_recipe(recipe, scans, out, resume=True)
        (out / "state.sqlite").unlink()
    assert run_recipe(recipe, scans, out, resume=True).computed == 0
    assert len(RunDirectory(out).files()) == 3


def test_one_bad_file_is_one_row(recipe: Path, scans: Scans, tmp_path: Path) -> None:
    bad, pipe = tmp_path / "bad.h5", tmp_path / "pipe.h5"
    bad.write_bytes(scans[0].read_bytes()[:900])
    os.mkfifo(pipe)
    gone = tmp_path / "gone.h5"
    done = run_recipe(recipe, [bad, *scans, pipe, gone], tmp_path / "out", retries=0)
    assert [row.source for row in done.failed] == list(map(str, (bad, pipe, gone)))
    assert [row.cause for row in done.failed] == ["damaged", "damaged", "missing"]
    assert all(str(row.source) in row.error for row in done.failed)
    assert len(done.done) == 3


@pytest.mark.usefixtures("faulty")
def test_crash_hang_and_hunger_are_rows(recipe: Path, scans: Scans, tmp_path: Path) -> None:
    names = ("crash", "hang", "eat", "once")
    faults = [Path(shutil.copy(scans[0], tmp_path / f"{name}.h5")) for name in names]
    out = tmp_path / "out"
    # What was tried once and died is tried again; that needs no second hang.
    done = run_recipe(
        recipe, [*faults, *scans], out, workers=2, memory="4 GB", timeout_s=8, retries=1
    )
    causes = {Path(row.source).stem: row.cause for row in done.failed}
    assert causes == {"crash": "crashed", "hang": "timeout", "eat": "memory"}
    errors = {Path(row.source).stem: row.error for row in done.failed}
    assert "signal 11" in errors["crash"] and "not done after 8 s" in errors["hang"]
    tries = {Path(row.source).stem: row.attempts for row in done.files}
    assert tries["crash"] == 2 and tries["once"] == 2 and tries["eat"] == 1
    assert len(done.done) == 4


@pytest.mark.usefixtures("faulty")
def test_limits_of_some_files(recipe: Path, scans: Scans, tmp_path: Path) -> None:
    faults = [Path(shutil.copy(scans[0], tmp_path / f"{n}.h5")) for n in ("hang", "crash")]
    text = recipe.read_text().replace("[output]", "[limits]\nretries = 0\n[output]") + (
        '[[override]]\nmatch = "hang*"\nset = { "limits.timeout_min" = 0.05 }\n'
        '[[override]]\nmatch = "crash*"\nset = { "limits.retries" = 1 }\n'
        '[[override]]\nmatch = "*crash*"\nset = { "limits.on_error" = "stop" }\n'
    )
    recipe.write_text(text)
    done = run_recipe(recipe, [*faults, *scans], tmp_path / "out")
    rows = {Path(row.source).stem: row for row in done.files}
    assert rows["hang"].cause == "timeout" and "not done after 3 s" in rows["hang"].error
    assert rows["hang"].attempts == 1 and rows["crash"].attempts == 2
    # The file that stops the run is tried once more at its end.
    assert [row.state for row in done.files] == ["failed", "failed", "done", "done", "done"]


def test_memory_of_some_files() -> None:
    step = '[[step]]\nuse = "mean-pattern"\n'
    text = (
        f'schema = 1\n{step}[limits]\nmemory_gb = 2\nretries = 3\n[[override]]\nmatch = "big*"\n'
        'set = { "limits.memory_gb" = 6 }\n[[override]]\nmatch = "*_small*"\n'
        'set = { "limits.memory_gb" = 1.5, "limits.timeout_min" = 9 }\n'
    )
    limits = limits_of(recipe_from_text(text))
    assert (limits("/d/a.h5").memory_gb, limits("/d/big.h5").memory_gb) == (2, 6)
    small = limits("/d/big_small.h5")
    assert (small.memory_gb, small.timeout_min, small.retries) == (1.5, 9, 3)
    share = 4_000_000_000
    caps = [memory_cap(share, limits(name), 1) for name in ("a", "big", "big_small")]
    assert caps == [2_000_000_000, 4_000_000_000, 1_500_000_000]


@pytest.mark.usefixtures("faulty")
def test_fail_fast_begins_no_more(recipe: Path, scans: Scans, tmp_path: Path) -> None:
    bad = tmp_path / "bad.h5"
    bad.write_bytes(b"nothing")
    done = run_recipe(recipe, [bad, *scans], tmp_path / "out", fail_fast=True)
    assert [row.state for row in done.files] == ["failed", "waiting", "waiting", "waiting"]


@pytest.mark.usefixtures("faulty")
def test_cancel_finishes_the_step_and_resumes(
    recipe: Path, scans: Scans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOW_STEP_S", "0.3")
    out, cancel = tmp_path / "out", threading.Event()

    def watch() -> None:
        while not (list(out.glob("files/*/mean-*/step.json"))):
            time.sleep(0.01)
        cancel.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    broken = run_recipe(recipe, scans, out, cancel=cancel)
    watcher.join()
    assert broken.interrupted and len(broken.done) < 3 and broken.computed >= 2
    rest = run_recipe(recipe, scans, out, resume=True)
    assert broken.computed + rest.computed == 9
    assert len(rest.done) == 3


def test_two_runs_in_one_folder_are_refused(recipe: Path, scans: Scans, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_recipe(recipe, scans, out)
    assert owner(out) == {}
    with locked(out):
        assert owner(out)["pid"] == os.getpid()
        with pytest.raises(StoreError, match=f"another run .*process {os.getpid()}"):
            run_recipe(recipe, scans, out, resume=True)
    assert run_recipe(recipe, scans, out, resume=True).computed == 0


def test_folders_of_others_are_left_alone(recipe: Path, scans: Scans, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(ParameterError, match="not empty and holds no run"):
        run_recipe(recipe, scans, tmp_path / "mine")
    with pytest.raises(ParameterError, match="holds no run"):
        RunDirectory(tmp_path / "mine")


@pytest.mark.usefixtures("faulty")
def test_full_disk_stops_the_run(
    recipe: Path, scans: Scans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setenv("FILE_LIMIT", "5000")
    with pytest.raises(StoreError, match=r"disk is full.*--resume"):
        run_recipe(recipe, scans, out)
    assert {row.state for row in RunDirectory(out).files()} == {"waiting"}
    assert not leftovers(out)
    monkeypatch.delenv("FILE_LIMIT")
    assert run_recipe(recipe, scans, out, resume=True).computed == 9


def test_state_that_cannot_be_written_ends_the_run(
    recipe: Path, scans: Scans, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run_recipe(recipe, scans[:1], out)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (25_000, before[1]))
    try:
        with pytest.raises(StoreError, match=r"state of the run.*--resume"):
            run_recipe(recipe, scans, out, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(run_recipe(recipe, scans, out, resume=True).done) == 3


def test_dry_run_gives_reasons_and_touches_nothing(
    recipe: Path, many: Scans, tmp_path: Path
) -> None:
    out, bad = tmp_path / "out", tmp_path / "bad.h5"
    bad.write_bytes(b"nothing")
    changed = Path(shutil.copy2(many[0], tmp_path / "changed.h5"))
    value = read_recipe(recipe)
    inputs = find_inputs([changed, many[1], bad, many[2], tmp_path / "gone.h5"])
    assert {p.reason for p in dry_run(value, inputs[:4], out, RunSettings())} == {"not begun"}
    assert not out.exists()
    run_recipe(value, inputs[:3], out)
    write_scan(changed, seed=5)
    before = times(out)
    plans = dry_run(value, inputs, out, RunSettings(resume=True))
    assert [(p.reason, len(p.steps)) for p in plans] == [
        ("the input has changed", 3), ("done", 0), ("failed before: damaged", 3), ("not begun", 3),
        ("there is no such file: it will fail", 3),
    ]  # fmt: skip
    again = dry_run(value, inputs, out, RunSettings(again_from="images"))
    assert again[1].steps == ("images", "image") and again[1].reason == "asked for again"
    other = with_settings(value, {"image.expression": "bf + 1"})
    assert dry_run(other, inputs, out, RunSettings(resume=True))[1].reason == "changed: image"
    assert before == times(out)


def test_settings_and_overrides_change_what_is_computed(
    recipe: Path, scans: Scans, tmp_path: Path
) -> None:
    changed = with_settings(read_recipe(recipe), {"image.expression": "5 * bf"})
    run_recipe(recipe, scans, tmp_path / "two")
    run_recipe(changed, scans, tmp_path / "five")
    two, five = contents(tmp_path / "two"), contents(tmp_path / "five")
    for name in two:
        np.testing.assert_allclose(five[name]["image"] * 2, two[name]["image"] * 5, rtol=1e-6)


def test_inputs(scans: Scans, tmp_path: Path) -> None:
    pattern = str(scans[0].parent / "s0[012].h5")
    assert find_inputs([pattern, scans[0]]) == tuple(map(str, scans))
    with pytest.raises(ParameterError, match="no file matches"):
        find_inputs([str(tmp_path / "*.nothing")])
    with pytest.raises(ParameterError, match="no input"):
        find_inputs([])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"workers": 0}, "workers must be"),
        ({"retries": -1}, "retries"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"resume": True, "force": True}, "choose one"),
        ({"memory": "10 MB"}, "too little"),
        ({"memory": "lots"}, "a size looks like"),
    ],
)
def test_settings_that_make_no_sense(
    given: dict[str, Any], words: str, recipe: Path, scans: Scans, tmp_path: Path
) -> None:
    with pytest.raises(ParameterError, match=words):
        run_recipe(recipe, scans, tmp_path / "out", **given)


def test_progress_counts_files(recipe: Path, scans: Scans, tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    run_recipe(recipe, scans, tmp_path / "out", progress=lambda *what: told.append(what))
    assert told[0] == (0, 3, "look") and told[-1] == (3, 3, "look")


def test_status_reads_while_a_run_writes(recipe: Path, scans: Scans, tmp_path: Path) -> None:
    seen: list[int] = []
    out = tmp_path / "out"

    def look(done: int, total: int, label: str) -> None:
        seen.append(sum(row.state == "done" for row in RunDirectory(out).files()))

    run_recipe(recipe, scans, out, progress=look)
    assert seen == sorted(seen) and seen[-1] == 3
    assert SimpleNamespace(**vars(RunDirectory(out).files()[0])).host
