"""Run directories without a run."""

from __future__ import annotations

import pytest

from py4DSTEM.batch import results
from py4DSTEM.batch.state import State

TEXT = """
schema = 1
name = "look"
about = "A <b>look</b>."

[[step]]
use = "mean-pattern"
name = "mean"

[[step]]
use = "center-of-mass"
name = "com"

[qc]
"mean.image_mean" = { min = 8 }
"""


class Made:
    """A run directory without a run."""

    def __init__(self, folder, text=TEXT):
        self.folder = folder
        (folder / "files").mkdir(parents=True)
        (folder / "run.toml").write_text(text, encoding="utf-8")
        self.state = State(folder / "state.sqlite")

    def file(self, name, **values):
        given = {"source": f"/data/{name}", "state": "done", "seconds": 1.0}
        self.state.file(name, **{**given, **values})
        (self.folder / "files" / name).mkdir()

    def step(self, file, name, value, position=0):
        record = {"name": name, "use": "mean-pattern", "parameters": {}, "warnings": ["dim"]}
        made = results.Made(name, "0" * 64, value, record)
        path = results.store(self.folder / "files" / file, made)
        self.state.step(file, name, use="mean-pattern", state="done", key="0" * 64,
                        position=position, path=path.name, seconds=0.5)  # fmt: skip
        return path


@pytest.fixture
def made(tmp_path):
    run = Made(tmp_path / "out")
    yield run
    run.state.close()
