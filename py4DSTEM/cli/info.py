"""``py4dstem info``: what files hold; headers only."""

from __future__ import annotations

import argparse
from typing import Any

from py4DSTEM.cli.inputs import open_file
from py4DSTEM.cli.output import Exit, emit, emit_json, exit_code, human_bytes, report_failure

Facts = dict[str, Any]


def run(options: argparse.Namespace) -> int:
    """Describe every file; one that cannot be read does not stop the others."""
    worst, described = Exit.OK, []
    for path in options.files:
        try:
            facts = {"path": path, "objects": _describe(open_file(path, options), options)}
        except Exception as error:
            code = report_failure(error, verbose=options.verbose)
            facts = {"path": path, "error": str(error), "code": int(exit_code(error))}
            worst = code if len(options.files) == 1 else Exit.SOME_FAILED
        described.append(facts)
    if options.json:
        emit_json({"files": described})
    else:
        for facts in described:
            _print(facts)
    return worst


def _describe(value: Any, options: argparse.Namespace) -> dict[str, Facts]:
    objects = value if isinstance(value, dict) else {getattr(value, "name", "data"): value}
    return {name: _facts(v, options) for name, v in objects.items()}


def _facts(value: Any, options: argparse.Namespace) -> Facts:
    from py4DSTEM.core.cube import Cube

    facts: Facts = {
        "class": type(value).__name__,
        "shape": list(getattr(value, "shape", ())),
        "dtype": str(getattr(value, "dtype", "")),
    }
    calibration = getattr(value, "calibration", None)
    if calibration is not None:
        facts["calibration"] = _calibration(calibration)
    if isinstance(value, Cube):
        facts |= _scan_facts(value)
        if options.tags:
            facts["tags"] = dict(value.metadata.original)
        if options.deep:
            facts["center pattern"] = _pattern(value)
    return facts


def _scan_facts(cube: Any) -> Facts:
    known = cube.metadata.known()
    return {
        "bytes": cube.nbytes,
        "chunks": getattr(cube.data, "chunks", None),
        "memory": _memory(cube),
        "metadata": {k: v for k, v in known.items() if k != "notes"},
        "notes": list(cube.metadata.notes),
    }


def _memory(cube: Any) -> Facts:
    """Bytes that one pass takes at most, and whether all of the scan would fit at once."""
    from py4DSTEM.stream.options import RunOptions, available_memory_bytes

    free = available_memory_bytes()
    return {
        "pass_bytes": min(RunOptions().budget_bytes(), cube.nbytes),
        "load_bytes": cube.nbytes,
        "free_bytes": free,
        "fits": cube.nbytes < free,
    }


def _calibration(calibration: Any) -> Facts:
    facts: Facts = {}
    for name in ("R", "Q"):
        x, y = getattr(calibration, name)
        facts[name] = f"{x.step:.6g} x {y.step:.6g} {x.unit}"
    for name in ("energy_eV", "semiangle_mrad", "rotation_rad", "flip", "ellipse"):
        if getattr(calibration, name) is not None:
            facts[name] = getattr(calibration, name)
    if calibration.origin_px is not None:
        facts["origin_px"] = list(calibration.mean_origin_px)
    return facts


def _pattern(cube: Any) -> Facts:
    """Figures of the pattern in the middle of the scan."""
    rx, ry = (n // 2 for n in cube.R_shape)
    data = cube[rx, ry].data
    return {
        "position": [rx, ry],
        "sum": float(data.sum(dtype=float)),
        "min": float(data.min()),
        "max": float(data.max()),
    }


# ---- for people ----------------------------------------------------------------------------------
def _print(facts: Facts) -> None:
    if "error" in facts:  # which has been said
        return
    emit(facts["path"])
    for name, parts in facts["objects"].items():
        shape = " x ".join(map(str, parts["shape"]))
        size = f"  {human_bytes(parts['bytes'])}" if "bytes" in parts else ""
        emit(f"  {name}: {parts['class']}  {shape}  {parts['dtype']}{size}")
        for group in ("calibration", "metadata", "center pattern"):
            for key, value in parts.get(group, {}).items():
                emit(f"    {key}: {value}")
        if "memory" in parts:
            emit(f"    memory: {_memory_line(parts['memory'])}")
        for note in parts.get("notes", ()):
            emit(f"    note: {note}")
        _tree(parts.get("tags", {}), "    ")


def _memory_line(memory: Facts) -> str:
    fits = "it fits" if memory["fits"] else "too much to load: it is used from the file"
    return (
        f"a pass over it takes up to {human_bytes(memory['pass_bytes'])}, all of it "
        f"{human_bytes(memory['load_bytes'])} of {human_bytes(memory['free_bytes'])} free: {fits}"
    )


def _tree(tree: dict[str, Any], indent: str) -> None:
    for key, value in tree.items():
        if isinstance(value, dict):
            emit(f"{indent}{key}")
            _tree(value, indent + "  ")
        else:
            text = str(value)
            emit(f"{indent}{key}: {text if len(text) < 200 else text[:200] + ' …'}")
