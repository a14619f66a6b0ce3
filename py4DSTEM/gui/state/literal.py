"""Values as Python text that gives the same value again; never by way of formatted strings."""

from __future__ import annotations

import base64
import dataclasses
import math
import textwrap
import zlib
from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any

import numpy as np
from numpy.typing import NDArray

import py4DSTEM
from py4DSTEM.core.parameters import Parameters
from py4DSTEM.errors import ParameterError

__all__ = ["Imports", "call", "literal"]

_INLINE = 64  # values; longer arrays are packed
_WIDTH = 96


class Imports:
    """Collects what a text has to import; `py4DSTEM` itself is always there."""

    def __init__(self) -> None:
        self._lines: set[str] = set()

    def name(self, thing: Any) -> str:
        """How a class or function is called in the text."""
        name = str(thing.__name__)
        if getattr(py4DSTEM, name, None) is thing:
            return f"py4DSTEM.{name}"
        self._lines.add(f"from {thing.__module__} import {name}")
        return name

    def module(self, line: str) -> None:
        """Add ``import …``."""
        self._lines.add(line)

    def text(self) -> str:
        """All import lines, as a formatter would sort them."""
        plain = sorted(line for line in self._lines if line.startswith("import "))
        named = sorted(line for line in self._lines if not line.startswith("import "))
        standard = [line for line in plain if "numpy" not in line]
        rest = [*(line for line in plain if "numpy" in line), "import py4DSTEM", *named]
        return "\n\n".join("\n".join(part) for part in (standard, rest) if part)


def literal(value: Any, imports: Imports) -> str:
    """Python text for a value.

    Parameters
    ----------
    value : object
        Plain values, arrays, detectors, selections, calibrations, parameters, and containers.
    imports : Imports
        Gets what the text needs.

    Raises
    ------
    ParameterError
        There is no text that gives this value again.

    Examples
    --------
    >>> from py4DSTEM import Disk
    >>> literal({"bf": Disk(3.0, center=(8, 7.5))}, Imports())
    "{'bf': py4DSTEM.Disk(3.0, center=(8.0, 7.5))}"
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str | bytes):
        return repr(value)
    if isinstance(value, float | complex):
        return _number(value)
    if isinstance(value, PathLike):
        return repr(fspath(value))
    if isinstance(value, np.ndarray):
        return _array(value, imports)
    if isinstance(value, Mapping):
        items = (f"{literal(k, imports)}: {literal(v, imports)}" for k, v in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, list | tuple):
        inner = ", ".join(literal(item, imports) for item in value)
        if isinstance(value, list):
            return f"[{inner}]"
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return _object(value, imports)


def call(function: str, given: list[str], named: Mapping[str, str]) -> str:
    """A call; one argument per line where it would be too long for one.

    >>> call("f", ["x"], {"y": "2"})
    'f(x, y=2)'
    """
    parts = [*given, *(f"{name}={text}" for name, text in named.items())]
    flat = f"{function}({', '.join(parts)})"
    if len(flat) <= _WIDTH:
        return flat
    return f"{function}(\n" + "".join(f"{textwrap.indent(p, '    ')},\n" for p in parts) + ")"


def _number(value: float | complex) -> str:
    parts = (value.real, value.imag) if isinstance(value, complex) else (value,)
    if all(map(math.isfinite, parts)):
        return repr(value)
    texts = [repr(p) if math.isfinite(p) else f'float("{p}")' for p in parts]
    return texts[0] if len(texts) == 1 else f"complex({', '.join(texts)})"


def _array(value: NDArray[Any], imports: Imports) -> str:
    if value.dtype.kind not in "biufc":
        raise ParameterError(f"an array of {value.dtype} cannot be written as Python")
    imports.module("import numpy as np")
    kind = repr(value.dtype.newbyteorder("<").str)
    if not value.size:
        return f"np.empty({value.shape!r}, {kind})"
    if value.size <= _INLINE and (value.dtype.kind in "biu" or np.isfinite(value).all()):
        return f"np.array({value.tolist()!r}, {kind})"
    imports.module("import base64")
    imports.module("import zlib")
    raw = np.ascontiguousarray(value, value.dtype.newbyteorder("<")).tobytes()
    packed = base64.b64encode(zlib.compress(raw, 9)).decode("ascii")
    lines = "\n".join(f"    {packed[k : k + 88]!r}" for k in range(0, len(packed), 88))
    inner = f"zlib.decompress(base64.b64decode(\n{lines}\n))"
    return f"np.frombuffer({inner}, {kind}).reshape({value.shape!r})"


def _object(value: Any, imports: Imports) -> str:
    if isinstance(value, Parameters):
        fields = {
            name: (getattr(value, name), info.get_default(call_default_factory=True))
            for name, info in type(value).model_fields.items()
        }
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            f.name: (getattr(value, f.name), _default(f))
            for f in dataclasses.fields(value)
            if f.init
        }
    else:
        raise ParameterError(f"a {type(value).__name__} cannot be written as Python")
    changed = {n: v for n, (v, default) in fields.items() if not _equal(v, default)}
    first = next(iter(fields), "")
    # The first of a shape is what it is about, and is as clear without its name.
    given = [literal(changed.pop(first), imports)] if first in changed else []
    named = {name: literal(item, imports) for name, item in changed.items()}
    if isinstance(value, Parameters) and given:
        named, given = {first: given[0], **named}, []
    return call(imports.name(type(value)), given, named)


def _default(field: Any) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _equal(value: Any, default: Any) -> bool:
    if isinstance(value, np.ndarray) or isinstance(default, np.ndarray):
        return False
    return type(value) is type(default) and bool(value == default)
