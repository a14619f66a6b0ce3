"""On which line of a TOML or JSON text a key stands; the parsers tell that of errors only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["line_of", "lines_of_json", "lines_of_toml"]

Path = tuple[str | int, ...]
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SCALAR = re.compile(r"[^,\]}\n#]*")
_STRINGS = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r'"""(?:\\.|[^\\])*?"{3,5}(?!")', r"'''.*?'{3,5}(?!')", r'"(?:\\.|[^"\\])*"', r"'[^']*'",
    )
)  # fmt: skip
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


def lines_of_toml(text: str) -> dict[Path, int]:
    """Line (from 1) of every key of a TOML text, by its path; elements of arrays have numbers.

    The text has been parsed before: of a text that is no TOML, lines are found as far as it goes.

    >>> lines_of_toml('a = 1\\n\\n[[step]]\\nuse = "x"\\nd = { r = 2 }')
    {('a',): 1, ('step', 0): 3, ('step', 0, 'use'): 4, ('step', 0, 'd'): 5, ('step', 0, 'd', 'r'): 5}
    """  # noqa: E501
    reader = _Reader(text)
    reader.toml()
    return reader.lines


def lines_of_json(text: str) -> dict[Path, int]:
    """As `lines_of_toml`.

    >>> lines_of_json('{"step": [\\n{"use": "x"}]}')
    {('step',): 1, ('step', 0): 2, ('step', 0, 'use'): 2}
    """
    reader = _Reader(text)
    reader.value(())
    return reader.lines


def line_of(lines: Mapping[Path, int], path: Path) -> int:
    """The line of a path, or of the nearest table around it; 1 where there is none."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 1


@dataclass
class _Reader:
    text: str
    at: int = 0
    lines: dict[Path, int] = field(default_factory=dict)
    _counts: dict[Path, int] = field(default_factory=dict)

    def toml(self) -> None:
        table: Path = ()
        self.blank()
        while self.at < len(self.text):
            before = self.at
            if self.text[self.at] == "[":
                table = self.header()
            else:
                self.entry(table)
            self.blank()
            if self.at == before:  # no TOML: the parser has said so
                return

    def header(self) -> Path:
        start, several = self.at, self.text.startswith("[[", self.at)
        self.at += 1 + several
        parts = self.key()
        self.at += 1 + several
        path: Path = ()
        for part in parts[:-1]:
            path = self.within((*path, part))
        path = (*path, parts[-1]) if parts else path
        if several:
            number = self._counts.get(path, -1) + 1
            self._counts[path] = number
            path = (*path, number)
        self.mark(path, start)
        return path

    def within(self, path: Path) -> Path:
        """Tables below an array of tables belong to its last one."""
        return (*path, self._counts[path]) if path in self._counts else path

    def entry(self, table: Path) -> None:
        start = self.at
        path = (*table, *self.key())
        self.mark(path, start)
        self.space("=:")
        self.value(path)

    def key(self) -> list[str]:
        parts: list[str] = []
        while True:
            self.blank()
            quoted = self.string()
            if quoted is None:
                bare = _BARE.match(self.text, self.at)
                if bare is None:
                    return parts
                quoted, self.at = bare[0], bare.end()
            parts.append(quoted)
            self.space()
            if self.text[self.at : self.at + 1] != ".":
                return parts
            self.at += 1

    def value(self, path: Path) -> None:
        self.blank()
        first = self.text[self.at : self.at + 1]
        if first == "[":
            self.members(path, "]")
        elif first == "{":
            self.members(path, "}")
        elif self.string() is None:
            scalar = _SCALAR.match(self.text, self.at)
            self.at = scalar.end() if scalar else self.at

    def members(self, path: Path, end: str) -> None:
        """Of an array or a table on one line."""
        self.at += 1
        number = 0
        while True:
            self.blank()
            if self.at >= len(self.text):
                return
            if self.text[self.at] == end:
                self.at += 1
                return
            before = self.at
            if end == "}":
                self.entry(path)
            else:
                self.mark((*path, number), self.at)
                self.value((*path, number))
                number += 1
            self.blank()
            if self.text[self.at : self.at + 1] == ",":
                self.at += 1
            elif self.at == before:
                return

    def string(self) -> str | None:
        for pattern in _STRINGS:
            found = pattern.match(self.text, self.at)
            if found is not None:
                self.at = found.end()
                body = found[0].strip(found[0][0])
                return body if found[0][0] == "'" else _unescaped(body)
        return None

    def mark(self, path: Path, at: int) -> None:
        self.lines.setdefault(path, self.text.count("\n", 0, at) + 1)

    def blank(self) -> None:
        found = _BLANK.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def space(self, signs: str = "") -> None:
        while self.text[self.at : self.at + 1] and self.text[self.at] in " \t" + signs:
            self.at += 1


def _unescaped(body: str) -> str:
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), body)
