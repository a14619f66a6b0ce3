"""Opening in a process of its own: a crash or a hang there is an error here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM.errors import CorruptFile, UnknownFormat
from py4DSTEM.io import probe as module
from py4DSTEM.io.format import ReadOptions


def test_a_sound_file_is_read_as_always(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(120, dtype=np.uint16).reshape(2, 3, 4, 5))
    assert py4DSTEM.read(tmp_path / "a.npy", untrusted=True).shape == (2, 3, 4, 5)


def test_a_refusal_comes_in_the_usual_words(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_bytes(b"nothing that anybody knows")
    with pytest.raises(UnknownFormat, match=r"a\.xyz"):
        py4DSTEM.read(tmp_path / "a.xyz", untrusted=True)


@pytest.mark.parametrize(
    ("code", "message"),
    [("import os; os.abort()", "crashed"), ("import time; time.sleep(60)", "come to an end")],
)
def test_crash_and_hang_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    fake = tmp_path / "python"
    fake.write_text(f'#!/bin/sh\nexec {module.sys.executable} -c "{code}"\n')
    fake.chmod(0o755)
    monkeypatch.setattr(module.sys, "executable", str(fake))
    with pytest.raises(CorruptFile, match=message):
        module.probe(tmp_path / "file.h5", ReadOptions(), seconds=2)
