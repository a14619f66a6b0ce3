"""What the user wishes, kept between two starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from py4DSTEM import ParameterError, StoreError
from py4DSTEM.gui import preferences as kept
from py4DSTEM.gui.preferences import Preferences


def test_what_was_saved_comes_back() -> None:
    assert kept.load() == Preferences()
    wished = Preferences(theme="dark", workers=3, shortcuts={"file.open": ("Ctrl+P",)})
    wished = kept.remembered(wished, "/data/é.h5")
    kept.save(wished)
    assert kept.load() == wished
    assert [path.name for path in kept.folder().iterdir()] == ["preferences.json"]


def test_files_opened_last() -> None:
    found = Preferences()
    for number in range(30):
        found = kept.remembered(found, f"{number}.h5")
    found = kept.remembered(found, "20.h5")
    assert found.recent[:3] == ("20.h5", "29.h5", "28.h5")
    assert len(set(found.recent)) == len(found.recent) == 20


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100000])
def test_a_damaged_file_is_set_aside(content: bytes) -> None:
    path = kept.folder() / "preferences.json"
    path.write_bytes(content)
    assert kept.load() == Preferences()
    assert path.with_suffix(".damaged.json").read_bytes() == content
    kept.save(Preferences(workers=2))
    assert kept.load().workers == 2


def test_only_what_makes_no_sense_is_passed_over() -> None:
    values = {"theme": "pink", "workers": 5, "of a later version": 1, "memory": "lots",
              "recent": ["a.h5"], "autosave_s": -1}  # fmt: skip
    (kept.folder() / "preferences.json").write_text(json.dumps(values))
    assert kept.load() == Preferences(workers=5, recent=("a.h5",))


def test_bad_wishes_are_refused(tmp_path: Path) -> None:
    for wrong in ({"memory": "lots"}, {"cache_folder": str(tmp_path / "none")}, {"workers": -1}):
        with pytest.raises(ParameterError):
            Preferences().replace(**wrong)


def test_a_full_disk_leaves_the_old_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    kept.save(Preferences(workers=2))

    def full(path: Path, data: bytes) -> None:
        path.write_bytes(data[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept, "write_bytes", full)
    with pytest.raises(StoreError, match="space"):
        kept.save(Preferences(workers=3))
    assert kept.load().workers == 2
    assert [path.name for path in kept.folder().iterdir()] == ["preferences.json"]
