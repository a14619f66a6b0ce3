"""``py4dstem run RECIPE``, ``status``, ``retry`` and ``clean``: what they print and return."""

from __future__ import annotations

import json
import shutil
import signal
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from batchkit import Disturbed, children, leftovers

from py4DSTEM.batch.rundir import RunDirectory
from py4DSTEM.cli import main
from py4DSTEM.cli.batch import seconds, setting
from py4DSTEM.errors import ParameterError

Scans = tuple[Path, ...]


def checked(text: str, name: str) -> dict[str, Any]:
    """The JSON object of an output, checked against the schema that is shipped."""
    jsonschema = pytest.importorskip("jsonschema")
    value: dict[str, Any] = json.loads(text)
    schema = (files("py4DSTEM.cli") / "schemas" / f"{name}.json").read_text("utf-8")
    jsonschema.validate(value, json.loads(schema))
    return value


def test_a_run_from_dry_to_clean(
    recipe: Path, scans: Scans, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, bad = str(tmp_path / "out"), tmp_path / "bad.h5"
    bad.write_bytes(b"nothing")
    words = ["run", str(recipe), *map(str, scans), str(bad), "-o", out]
    assert main([*words, "-n", "--json"]) == 0
    told = checked(capsys.readouterr().out, "dry-run")
    assert told["steps"] == 12 and {job["reason"] for job in told["jobs"]} == {"not begun"}
    assert not Path(out).exists()
    assert main([*words, "--json"]) == 1
    said = capsys.readouterr()
    told = checked(said.out, "batch")
    assert told["computed"] == 9 and not told["interrupted"]
    assert [row["state"] for row in told["files"]] == ["done"] * 3 + ["failed"]
    assert f"failed: {bad}: damaged" in said.err
    assert main(words) == 2 and "--resume" in capsys.readouterr().err
    assert main(["status", out, "--json"]) == 1
    told = checked(capsys.readouterr().out, "status")
    assert told["at_work"] is None and len(told["files"]) == 4
    assert main(["status", out]) == 1
    assert "3 done, 1 failed" in capsys.readouterr().out
    shutil.copy(scans[0], bad)
    assert main(["retry", out, "--failed"]) == 0
    assert "1 done, 0 failed; 3 steps computed" in capsys.readouterr().out
    assert main(["retry", out]) == 0
    assert "nothing to do" in capsys.readouterr().out
    changed = [*words, "--resume", "--set", "image.expression=7*bf", "--limit", "2"]
    assert main(changed) == 0
    assert "2 done, 0 failed; 2 steps" in capsys.readouterr().out
    assert main([*words, "--from", "images"]) == 0
    assert "8 steps computed" in capsys.readouterr().out
    part = RunDirectory(out).folder(RunDirectory(out).files()[0]) / ".x.part-1-0123456789ab"
    part.mkdir()
    assert main(["clean", out, "--temp", "--json"]) == 0
    assert checked(capsys.readouterr().out, "clean")["removed"] == [str(part)]
    assert main(["clean", out]) == 0
    assert "2 removed" in capsys.readouterr().out  # "image" as it was with 7*bf
    assert not leftovers(tmp_path / "out")
    assert len(RunDirectory(out).results(RunDirectory(out).files()[0])) == 3


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--timeout", "soon"], "90s, 5m or 2h"),
        (["--set", "image"], "STEP.PARAMETER=VALUE"),
        (["--set", "image.expresion=bf"], "expression"),
        (["--from", "nowhere", "--force"], "not allowed with"),
        (["--from", "nowhere"], "the steps are mean, images, image"),
        (["--limit", "0"], "--limit"),
        (["--mem", "5 MB"], "too little"),
        (["-j", "-1"], "workers"),
    ],
)
def test_mistakes_are_explained(
    more: list[str],
    words: str,
    recipe: Path,
    scans: Scans,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", str(recipe), str(scans[0]), "-o", str(tmp_path / "out"), *more]) == 2
    assert words in capsys.readouterr().err


def test_a_recipe_or_a_run_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(tmp_path / "no.toml"), "x.h5", "-o", str(tmp_path / "out")]) == 2
    assert "no.toml" in capsys.readouterr().err
    for command in ("status", "retry", "clean"):
        assert main([command, str(tmp_path)]) == 2
        assert "holds no run" in capsys.readouterr().err


@pytest.mark.usefixtures("faulty")
@pytest.mark.parametrize(
    ("signals", "code"),
    [([signal.SIGINT], 130), ([signal.SIGINT, signal.SIGINT], 130), ([signal.SIGTERM], 143)],
    ids=["once", "twice", "terminated"],
)
def test_signals(
    signals: list[signal.Signals], code: int, recipe: Path, scans: Scans, tmp_path: Path
) -> None:
    slow = 0.4 if signals == [signal.SIGINT] else 60.0
    night = Disturbed(recipe, list(scans), tmp_path / "out", log=tmp_path / "stages", slow_s=slow)
    process = night.start()
    while night.stages() == 0 and process.poll() is None:
        time.sleep(0.02)
    workers = children(process.pid)
    for number in signals:
        process.send_signal(number)
        time.sleep(0.3)
    with process:  # closes what it says
        assert process.wait(30) == code
    assert workers and not night.orphans()
    rows = RunDirectory(tmp_path / "out").files()
    assert "running" not in {row.state for row in rows}
    done = [step for row in rows for step in row.steps if step.state == "done"]
    if slow < 1:  # the step in flight was finished; its stage holds two
        assert len(done) >= 2 and len(done) < 9
    else:
        assert not done


def test_values_of_set_and_timeout() -> None:
    assert setting("a.b=[1, 2]") == ("a.b", [1, 2])
    assert setting("a.b=word") == ("a.b", "word")
    assert [seconds(text) for text in ("90", "1.5m", "2h", "1d")] == [90, 90, 7200, 86400]
    for wrong in ("", "h", "-3s", "0", "1y", "nan"):
        with pytest.raises(ParameterError):
            seconds(wrong)
