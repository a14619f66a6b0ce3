"""Rules that the source itself must keep."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "py4DSTEM"
MODULES = sorted(PACKAGE.rglob("*.py"))

BANNED_CALLS = {"eval", "exec", "print", "compile", "input"}
BANNED_ATTRIBUTES = {
    ("yaml", "load"), ("torch", "load"), ("zipfile", "extractall"), ("tarfile", "extractall"),
    ("os", "system"), ("os", "popen"), ("pickle", "loads"), ("pickle", "load"),
    ("dill", "loads"), ("dill", "load"), ("marshal", "loads"),
}  # fmt: skip
BANNED_IMPORTS = {"pickle", "dill", "shelve", "marshal", "cloudpickle", "xml.etree", "telnetlib"}
PEERS = {"libertem", "pyxem", "quantem", "ptyrad", "abtem", "emdfile"}


def nodes(path: Path) -> Iterator[ast.AST]:
    yield from ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def names_imported(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def identify(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_no_dangerous_or_noisy_calls(path: Path) -> None:
    found = []
    for node in nodes(path):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in BANNED_CALLS:
            found.append(f"{node.func.id} at line {node.lineno}")
        if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            pair = (node.func.value.id, node.func.attr)
            if pair in BANNED_ATTRIBUTES or node.func.attr == "extractall":
                found.append(f"{'.'.join(pair)} at line {node.lineno}")
        for keyword in node.keywords:
            true = isinstance(keyword.value, ast.Constant) and keyword.value.value is True
            if keyword.arg in ("shell", "allow_pickle") and true:
                found.append(f"{keyword.arg}=True at line {node.lineno}")
    assert not found


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_no_banned_imports(path: Path) -> None:
    imported = set(names_imported(path))
    banned = {
        name
        for name in imported
        for bad in BANNED_IMPORTS
        if name == bad or name.startswith(f"{bad}.")
    }
    assert not banned
    assert not {name.split(".")[0] for name in imported} & PEERS


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_no_bare_except_and_no_assert(path: Path) -> None:
    found = [
        f"line {node.lineno}"
        for node in nodes(path)
        if (isinstance(node, ast.ExceptHandler) and node.type is None)
        or (isinstance(node, ast.Assert) and "testing" not in path.parts)
    ]
    assert not found


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_no_mutable_defaults(path: Path) -> None:
    found = []
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            defaults = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
            found += [
                f"{node.name} at line {node.lineno}"
                for d in defaults
                if isinstance(d, ast.List | ast.Dict | ast.Set)
            ]
    assert not found


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_functions_are_short(path: Path) -> None:
    long = [
        f"{node.name}: {node.end_lineno - node.lineno} lines"
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno > 100
    ]
    assert not long


def test_scan_loops_only_in_the_engine() -> None:
    """No thread and no executor outside the room that owns the loop (and the HDF5 writer)."""
    allowed = {"stream", "cli", "testing"}
    users = [
        identify(path)
        for path in MODULES
        if path.relative_to(PACKAGE).parts[0] not in allowed
        and {"concurrent.futures", "multiprocessing"} & set(names_imported(path))
        and path.relative_to(PACKAGE).parts[:2] != ("io", "store")
    ]
    assert not users


def test_kernels_are_never_parallel() -> None:
    """Two threads entering a parallel numba kernel abort the process under workqueue."""
    for path in sorted((PACKAGE / "kernels").rglob("*.py")):
        assert "parallel=True" not in path.read_text(encoding="utf-8"), path
