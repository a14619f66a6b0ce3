"""What is kept for the case that the program ends badly."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from state_scans import Bench, all_kinds, analysed, assert_same, cube, saved

import py4DSTEM
from py4DSTEM import DataCube, FormatError, StoreError
from py4DSTEM.gui.state.autosave import Autosave, recoverable
from py4DSTEM.gui.state.commands import AddResult, RemoveResult
from py4DSTEM.gui.state.project import Project, Result, Scan


def left(saving: Autosave) -> None:
    """As if the program had died: the system lets go of its lock."""
    saving._lock.release()


def test_what_was_open_comes_back(tmp_path: Path) -> None:
    bench = analysed(saved())
    saving = Autosave(tmp_path)
    assert saving.keep(bench.project) == ()
    assert recoverable(tmp_path) == ()  # the program runs
    left(saving)
    (crashed,) = recoverable(tmp_path)
    assert crashed.scans == (bench.scan.name,)
    assert crashed.results == 6
    found = crashed.restore()
    assert found.project.model_dump() == bench.project.model_dump()
    for old, new in zip(bench.scan.results, found.project.scans[0].results, strict=True):
        assert_same(new.value, old.value)
    crashed.discard()
    assert recoverable(tmp_path) == ()
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_ends_well_leaves_nothing(tmp_path: Path) -> None:
    saving = Autosave(tmp_path / "new" / "folder")
    saving.keep(analysed(saved()).project)
    saving.close()
    saving.close()
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_values_are_written_once(tmp_path: Path) -> None:
    bench = Bench(saved())
    saving = Autosave(tmp_path)
    for number in range(3):
        bench.do(AddResult, result=Result(name=f"r{number}", value=np.full((3, 4), number)))
        saving.keep(bench.project)
    files = {path.name: path.stat().st_mtime_ns for path in saving.folder.glob("value-*")}
    assert len(files) == 3
    bench.do(RemoveResult, name="r1")
    saving.keep(bench.project)
    after = {path.name: path.stat().st_mtime_ns for path in saving.folder.glob("value-*")}
    assert after == {name: files[name] for name in ("value-1.h5", "value-3.h5")}
    bench.undo.undo()
    saving.keep(bench.project)
    left(saving)
    values = [r.value for r in recoverable(tmp_path)[0].restore().project.scans[0].results]
    assert [value[0, 0] for value in values] == [0, 1, 2]


def test_a_project_that_has_not_changed_is_not_written_again(tmp_path: Path) -> None:
    bench, saving = analysed(saved()), Autosave(tmp_path)
    saving.keep(bench.project)
    text = saving.folder / "project.json"
    before = text.stat().st_ino
    saving.keep(bench.project)
    assert text.stat().st_ino == before
    saving.close()


def test_scans_from_memory_are_kept_up_to_a_size(tmp_path: Path) -> None:
    project = Project(scans=(Scan(key="s", name="simulated"),), current="s")
    saving = Autosave(tmp_path)
    assert saving.keep(project, {"s": cube()}) == ()
    left(saving)
    found = recoverable(tmp_path)[0].restore()
    assert isinstance(found.cubes["s"], DataCube)
    assert np.array_equal(np.asarray(found.cubes["s"].data), np.asarray(cube().data))
    small = Autosave(tmp_path / "small", largest_bytes=1000)
    (note,) = small.keep(project, {"s": cube()})
    assert "scans/s" in note
    left(small)
    found = recoverable(tmp_path / "small")[0].restore()
    assert found.cubes == {}
    assert "from memory" in found.notes[0]


def test_two_programs_do_not_recover_the_same(tmp_path: Path) -> None:
    saving = Autosave(tmp_path)
    saving.keep(analysed(saved()).project)
    left(saving)
    (crashed,) = recoverable(tmp_path)
    assert saving._lock.take()  # another program has it
    with pytest.raises(FormatError, match="another program"):
        crashed.restore()
    crashed.discard()
    assert saving.folder.is_dir()
    saving.close()
    with pytest.raises(FormatError):
        crashed.restore()


def test_nothing_open_is_nothing_to_recover(tmp_path: Path) -> None:
    saving = Autosave(tmp_path)
    saving.keep(Project())
    left(saving)
    assert recoverable(tmp_path) == ()
    assert recoverable(tmp_path / "none") == ()


def test_damaged_folders_are_passed_over(tmp_path: Path) -> None:
    saving = Autosave(tmp_path)
    saving.keep(analysed(saved()).project)
    left(saving)
    for number, content in enumerate([b"", b"[]", b"{", b'{"files": {}}', b'{"files": 3}']):
        folder = tmp_path / f"1-0000000{number}"
        folder.mkdir()
        (folder / "project.json").write_bytes(content)
    (tmp_path / "somebody else's").mkdir()
    assert len(recoverable(tmp_path)) == 1
    assert list((tmp_path / "somebody else's").iterdir()) == []


def test_folders_of_programs_that_never_had_a_project_go_away(tmp_path: Path) -> None:
    for name, age_s in (("1-00000001", 0), ("1-00000002", 9999)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lock").touch()
        then = (tmp_path / name).stat().st_mtime - age_s
        os.utime(tmp_path / name, (then, then))
    assert recoverable(tmp_path) == ()
    assert [path.name for path in tmp_path.iterdir()] == ["1-00000001"]


def test_a_value_that_is_gone_takes_only_itself(tmp_path: Path) -> None:
    bench, saving = analysed(saved()), Autosave(tmp_path)
    saving.keep(bench.project)
    left(saving)
    (saving.folder / "value-2.h5").write_bytes(b"nonsense")
    found = recoverable(tmp_path)[0].restore()
    gone = [result.name for result in found.project.scans[0].results if result.value is None]
    assert len(gone) + (found.project.scans[0].layers[1].value is None) == 1
    assert len(found.notes) == 1


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError):
        Autosave(tmp_path / "file")


PROGRAM = textwrap.dedent("""
    import sys
    import numpy as np
    from py4DSTEM.gui.state.autosave import Autosave
    from py4DSTEM.gui.state.commands import AddResult, AddScan, RemoveResult
    from py4DSTEM.gui.state.project import Result, Scan
    from py4DSTEM.gui.state.undo import Undo

    undo, saving = Undo(), Autosave(sys.argv[1])
    undo.do(AddScan(scan=Scan(key="s", name="scan", source={"path": sys.argv[2]})))
    for number in range(100000):
        value = np.full((40, 50), float(number))
        undo.do(AddResult(key="s", result=Result(name=f"r{number}", value=value)))
        if number >= 5:
            undo.do(RemoveResult(key="s", name=f"r{number - 5}"))
        saving.keep(undo.project)
        print(number, flush=True)
""")


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_killed_at_any_moment(tmp_path: Path) -> None:
    draw = random.Random(4)
    for trial in range(3):
        folder = tmp_path / str(trial)
        program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder), str(saved())],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert program.stdout is not None
        with program, program.stdout as lines:
            for _ in range(draw.randrange(1, 12)):
                done = int(lines.readline())
            try:  # at any moment of the writing that follows
                program.wait(draw.uniform(0, 0.05))
            except subprocess.TimeoutExpired:
                program.send_signal(signal.SIGKILL)
            done = max([done, *map(int, lines.read().split())])
        assert program.returncode == -signal.SIGKILL
        (crashed,) = recoverable(folder)
        found = crashed.restore()
        assert found.notes == ()
        results = found.project.scans[0].results
        last = int(results[-1].name[1:])
        assert last in (done, done + 1)  # nothing that was kept is lost
        assert [r.name for r in results] == [f"r{k}" for k in range(max(0, last - 4), last + 1)]
        assert all((r.value == int(r.name[1:])).all() and r.value.shape == (40, 50)
                   for r in results)  # fmt: skip
        crashed.discard()
        assert list(folder.iterdir()) == []


def test_results_of_a_step_are_kept_with_how_they_were_made(tmp_path: Path) -> None:
    bench, saving = Bench(saved()), Autosave(tmp_path)
    value = bench.step("mean", all_kinds()["mean-pattern"]())
    saving.keep(bench.project)
    left(saving)
    result = recoverable(tmp_path)[0].restore().project.scans[0].result("mean")
    assert result.made == bench.scan.result("mean").made
    assert_same(result.value, value)
    assert isinstance(result.value, py4DSTEM.DiffractionSlice)
