"""Notebooks of a project."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from state_scans import analysed, saved

import py4DSTEM
from py4DSTEM import DependencyMissing
from py4DSTEM.gui.state.notebook import notebook
from py4DSTEM.gui.state.project import Project, Scan


# Jupyter warns of its own folders, and leaves sockets to the end of the process.
@pytest.mark.filterwarnings("ignore")
def test_a_notebook_runs_and_shows_its_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel has one that keeps pictures
    node = notebook(analysed(saved()).project, "scan1")
    nbformat.validate(node)
    NotebookClient(node, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in node.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)
    kept = py4DSTEM.read(next(tmp_path.glob("*_results.h5")))
    assert set(kept) >= {"lattice", "strain/map", "image"}


def test_the_same_project_gives_the_same_notebook() -> None:
    bench = analysed(saved())
    assert notebook(bench.project, "scan1") == notebook(bench.project, "scan1")


def test_names_are_only_text() -> None:
    scan = Scan(key="s", name="<script>x</script> **b** [l](u)", source={"path": "x.h5"})
    title = notebook(Project(scans=(scan,)), "s").cells[0].source
    assert "<script>" not in title
    assert r"\*\*b\*\*" in title
    assert r"\[l\]\(u\)" in title


def test_without_nbformat_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nbformat", None)
    with pytest.raises(DependencyMissing, match="pip install nbformat"):
        notebook(Project(scans=(Scan(key="s", name="x", source={"path": "x.h5"}),)), "s")
