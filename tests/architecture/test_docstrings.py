"""Every public name explains itself: parameters, results, and one line that says what it is."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import py4DSTEM
from py4DSTEM import simulate
from py4DSTEM.core.parameters import Parameters

STUB = ast.parse((Path(py4DSTEM.__file__).parent / "__init__.pyi").read_text(encoding="utf-8"))
NAMES = {
    alias.asname: getattr(py4DSTEM, alias.asname)
    for node in STUB.body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
    if alias.asname
}
CALLABLES = {name: value for name, value in NAMES.items() if callable(value)}
CALLABLES |= {f"simulate.{name}": getattr(simulate, name) for name in simulate.__all__}
FUNCTIONS = {name: f for name, f in CALLABLES.items() if inspect.isfunction(f)}
CLASSES = {name: c for name, c in CALLABLES.items() if inspect.isclass(c)}


def sections(value: Any) -> dict[str, str]:
    """Text of the numpydoc sections of a docstring, by title; the summary under ''."""
    parts = re.split(r"^(\w[\w ]*)\n-+$", inspect.getdoc(value) or "", flags=re.MULTILINE)
    return dict(zip(["", *parts[1::2]], parts[0::2], strict=True))


def refers(value: Any) -> bool:
    """Whether another public function is named that takes and gives the same."""
    match = re.search(r"Parameters and \w+ (?:are )?as for `(\w+)`", inspect.getdoc(value) or "")
    return match is not None and match[1] in FUNCTIONS


def documented(text: str) -> set[str]:
    """Names at the start of the entries of a section of parameters."""
    entries = re.findall(r"^(\S.*?)(?: : .*)?$", text, flags=re.MULTILINE)
    return {name.strip().lstrip("*") for entry in entries for name in entry.split(",")}


@pytest.mark.parametrize("name", CALLABLES)
def test_summary_is_one_sentence(name: str) -> None:
    first = sections(CALLABLES[name])[""].strip().split("\n\n")[0]
    assert first and first[0] == first[0].upper() and first[-1] in ".:", first


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_document_what_they_take_and_give(name: str) -> None:
    function = FUNCTIONS[name]
    if refers(function):
        return
    found = sections(function)
    signature = inspect.signature(function)
    if signature.parameters:
        missing = set(signature.parameters) - documented(found.get("Parameters", ""))
        assert not missing, f"{name} does not document {sorted(missing)}"
    if signature.return_annotation not in (None, "None"):
        assert "Returns" in found, f"{name} does not say what it returns"


@pytest.mark.parametrize("name", [n for n, c in CLASSES.items() if issubclass(c, Parameters)])
def test_steps_describe_every_parameter(name: str) -> None:
    fields = CLASSES[name].model_fields
    told = documented(sections(CLASSES[name]).get("Parameters", ""))
    silent = [n for n, field in fields.items() if not field.description and n not in told]
    assert not silent


@pytest.mark.parametrize(
    "name",
    [
        n
        for n, c in CLASSES.items()
        if not issubclass(c, (Parameters, BaseException)) and inspect.signature(c).parameters
    ],
)
def test_values_describe_what_they_hold(name: str) -> None:
    assert "Parameters" in sections(CLASSES[name]), f"{name} does not describe its fields"
