"""Small XML files of instruments, read without trusting them.

Only elements, attributes and text exist here: a document type, and with it every entity, is
refused; size, depth and number of elements are bounded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from py4DSTEM.errors import CorruptFile

__all__ = ["Element", "parse_xml", "read_xml"]

MAX_BYTES = 16 * 2**20
MAX_DEPTH = 64
MAX_ELEMENTS = 200_000


@dataclass
class Element:
    """One element: its attributes, its own text (stripped) and its children in order."""

    tag: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, tag: str) -> Iterator[Element]:
        """Children called `tag`."""
        return (child for child in self.children if child.tag == tag)

    def find(self, *path: str) -> Element | None:
        """The first child, grandchild … along `path`, or None."""
        here: Element | None = self
        for tag in path:
            here = None if here is None else next(here.all(tag), None)
        return here

    def value(self, *path: str) -> str | None:
        """Text of the element at `path`; None where there is none."""
        found = self.find(*path)
        return found.text if found is not None and found.text else None

    def number(self, *path: str) -> float | None:
        """Text of the element at `path` as a finite number, or None."""
        try:
            number = float(self.value(*path) or "nan")
        except ValueError:
            return None
        return number if abs(number) < float("inf") else None

    def tree(self) -> Any:
        """Plain dicts, lists and strings: attributes as ``@name``, repeated elements as a list."""
        if not self.children and not self.attributes:
            return self.text
        out: dict[str, Any] = {f"@{name}": value for name, value in self.attributes.items()}
        if self.text:
            out["#text"] = self.text
        repeated: dict[str, list[Any]] = {}
        for child in self.children:
            repeated.setdefault(child.tag, []).append(child.tree())
        return out | {tag: v[0] if len(v) == 1 else v for tag, v in repeated.items()}


def read_xml(path: str | os.PathLike[str], format: str) -> Element:
    """Root element of an XML file.

    Raises
    ------
    CorruptFile
        Not well-formed, too large or deep, or with a document type; names the offset.
    """
    size = os.stat(path).st_size
    if size > MAX_BYTES:
        raise CorruptFile(
            "too large for a description in XML",
            path=path, format=format, expected=f"at most {MAX_BYTES} bytes", got=f"{size} bytes",
        )  # fmt: skip
    with open(path, "rb") as f:
        return parse_xml(f.read(MAX_BYTES), path, format)


def parse_xml(data: bytes, path: str | os.PathLike[str], format: str) -> Element:
    """Root element of an XML document in memory; see `read_xml`."""
    builder = _Builder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.characters
    parser.StartDoctypeDeclHandler = builder.refuse
    parser.EntityDeclHandler = builder.refuse
    parser.ExternalEntityRefHandler = builder.refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, _Refused, ValueError, LookupError) as error:
        raise CorruptFile(
            f"its XML cannot be read: {error}",
            path=path,
            format=format,
            offset=max(parser.CurrentByteIndex, 0),
            hint="Was it copied completely, or edited by hand?",
        ) from error
    return builder.root


class _Refused(Exception):
    """The document asks for something that a description of a measurement does not need."""


class _Builder:
    """Collects what the parser reports."""

    def __init__(self) -> None:
        self.root = Element("")
        self._open: list[tuple[Element, list[str]]] = []
        self._count = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if len(self._open) >= MAX_DEPTH or self._count > MAX_ELEMENTS:
            raise _Refused("too many elements, or nested too deeply")
        element = Element(tag, attributes)
        if self._open:
            self._open[-1][0].children.append(element)
        else:
            self.root = element
        self._open.append((element, []))

    def end(self, tag: str) -> None:
        element, pieces = self._open.pop()
        element.text = "".join(pieces).strip()

    def characters(self, text: str) -> None:
        self._open[-1][1].append(text)

    def refuse(self, *_: object) -> int:
        raise _Refused("document types and entities are not accepted")
