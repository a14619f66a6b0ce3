"""The tag tree of Gatan DM3 and DM4 files, parsed without reading the data in it.

A file is a tree of named groups and values.  Every value says its type first; the types are small
numbers, in big-endian order like everything else except the values themselves.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from py4DSTEM.errors import CorruptFile

__all__ = ["StoredArray", "TagFile", "read_tags"]

_MAX_DEPTH = 64
_MAX_TAGS = 2_000_000
_MAX_TYPE_WORDS = 4096
_WINDOW = 1 << 16
_INLINE_BYTES = 1 << 14
"""Arrays up to this size become values; larger ones stay in the file."""

_GROUP, _VALUE = 20, 21
_STRUCT, _STRING, _ARRAY = 15, 18, 20
_SIMPLE = {2: "i2", 3: "i4", 4: "u2", 5: "u4", 6: "f4", 7: "f8", 8: "u1", 9: "i1", 10: "u1",
           11: "i8", 12: "u8"}  # fmt: skip
_BOOL, _USHORT = 8, 4


@dataclass(frozen=True)
class StoredArray:
    """An array that stays in the file: where it starts, its item type and its length."""

    offset: int
    dtype: np.dtype[Any]
    count: int

    @property
    def nbytes(self) -> int:
        return self.count * self.dtype.itemsize


@dataclass(frozen=True)
class TagFile:
    """A parsed file: version 3 or 4, byte order of the values, the tree, what went wrong."""

    version: int
    order: str
    tags: dict[str, Any]
    size: int
    damage: CorruptFile | None = None


class _Cursor:
    """A bounded window on a file; every step is checked against its size."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by the caller
        self.size = os.fstat(self._file.fileno()).st_size
        self.at = 0
        self._start, self._window = 0, b""

    def close(self) -> None:
        self._file.close()

    def fail(self, what: str, at: int, **details: Any) -> NoReturn:
        raise CorruptFile(
            what,
            path=self.path,
            format="dm",
            offset=at,
            hint="The file is damaged or was not copied completely: compare with the original",
            **details,
        )

    def skip(self, count: int) -> None:
        self._check(count)
        self.at += count

    def take(self, count: int) -> bytes:
        """The next `count` bytes (a few kilobytes at most)."""
        self._check(count)
        first = self.at - self._start
        if first < 0 or first + count > len(self._window):
            self._file.seek(self.at)
            self._start, first = self.at, 0
            self._window = self._file.read(max(count, _WINDOW)) or b""
        part = self._window[first : first + count]
        if len(part) < count:
            self.fail("the file ended while it was read", self.at)
        self.at += count
        return part

    def _check(self, count: int) -> None:
        if count > self.size - self.at:
            self.fail("the tags go on beyond the end of the file", self.at,
                      expected=f"{count} more bytes", got=f"{self.size - self.at}")  # fmt: skip

    def number(self, code: str) -> int:
        value: int = struct.unpack(f">{code}", self.take(struct.calcsize(code)))[0]
        return value


class _Parser:
    def __init__(self, cursor: _Cursor) -> None:
        self.cursor = cursor
        self.version, self.order = _header(cursor)
        self.word = "Q" if self.version == 4 else "I"
        self.left = _MAX_TAGS

    def group(self, into: dict[str, Any], depth: int = 0) -> None:
        """Fill `into` with the members of the group at the cursor."""
        cursor = self.cursor
        at = cursor.at
        if depth > _MAX_DEPTH:
            cursor.fail("the tags are nested too deeply", at, expected=f"at most {_MAX_DEPTH}")
        cursor.take(2)  # sorted, open
        count = cursor.number(self.word)
        self.left -= count
        # An entry is never shorter than its type and the length of its name.
        if self.left < 0 or count * 3 > cursor.size - cursor.at:
            cursor.fail("a group claims an absurd number of tags", at, got=count)
        for position in range(count):
            self._entry(into, position, depth)

    def _entry(self, into: dict[str, Any], position: int, depth: int) -> None:
        cursor = self.cursor
        at = cursor.at
        kind = cursor.number("B")
        if kind not in (_GROUP, _VALUE):
            cursor.fail("no tag where one should be", at, expected="type 20 or 21", got=kind)
        name = cursor.take(cursor.number("H")).decode("latin-1")
        key = name or str(position)
        while key in into:
            key += "'"
        if self.version == 4:
            cursor.take(8)  # size of the entry; known without it
        if kind == _GROUP:
            into[key] = {}
            self.group(into[key], depth + 1)
        else:
            self._value(into, key)

    def _value(self, into: dict[str, Any], key: str) -> None:
        cursor = self.cursor
        at = cursor.at
        if cursor.take(4) != b"%%%%":
            cursor.fail("no value where one should be", at, expected="%%%%")
        count = cursor.number(self.word)
        if not 1 <= count <= _MAX_TYPE_WORDS:
            cursor.fail("impossible description of a type", at, got=f"{count} words")
        raw = cursor.take(count * struct.calcsize(self.word))
        words = [int(w) for w in struct.unpack(f">{count}{self.word}", raw)]
        if words[0] in (_ARRAY, _STRING):
            self._array(into, key, words, at)
        else:
            dtype, rest = self._dtype(words, at)
            if rest:
                cursor.fail("impossible description of a type", at, got=words[:8])
            item = np.frombuffer(cursor.take(dtype.itemsize), dtype)[0].item()
            into[key] = bool(item) if words == [_BOOL] else item

    def _dtype(self, words: list[int], at: int, depth: int = 0) -> tuple[np.dtype[Any], list[int]]:
        """numpy type at the start of `words`, and the words after it."""
        if words and words[0] in _SIMPLE:
            return np.dtype(self.order + _SIMPLE[words[0]]), words[1:]
        if depth > 4 or not words:
            self.cursor.fail("impossible description of a type", at, got=words[:8])
        if words[0] == _STRUCT and len(words) >= 3:
            fields, rest = [], words[3:]
            for i in range(min(words[2], _MAX_TYPE_WORDS)):
                field, rest = self._dtype(rest[1:], at, depth + 1)
                fields.append((f"f{i}", field))
            if fields:
                return np.dtype(fields), rest
        if words[0] == _ARRAY:
            inner, rest = self._dtype(words[1:], at, depth + 1)
            if rest and 0 < rest[0] * inner.itemsize <= _INLINE_BYTES:
                return np.dtype((inner, (rest[0],))), rest[1:]
        self.cursor.fail("a type that is not supported", at, got=words[:8])

    def _array(self, into: dict[str, Any], key: str, words: list[int], at: int) -> None:
        cursor = self.cursor
        if words[0] == _STRING:
            words = [_ARRAY, _USHORT, *words[1:]]
        dtype, rest = self._dtype(words[1:], at)
        if len(rest) != 1:
            cursor.fail("impossible description of an array", at, got=words[:8])
        stored = StoredArray(cursor.at, dtype, rest[0])
        if key == "Data" or stored.nbytes > _INLINE_BYTES:
            into[key] = stored  # before the check, so that a truncated file can still be used
            cursor.skip(stored.nbytes)
        else:
            into[key] = _inline(cursor.take(stored.nbytes), dtype, words[1] == _USHORT)


def _inline(raw: bytes, dtype: np.dtype[Any], text: bool) -> Any:
    """Strings are arrays of UTF-16 units; other short arrays become lists."""
    values = np.frombuffer(raw, dtype)
    if text:
        encoding = "utf-16-be" if dtype.byteorder == ">" else "utf-16-le"
        decoded = raw.decode(encoding, errors="replace").rstrip("\0")
        if all(c.isprintable() or c in "\r\n\t" for c in decoded) and "\ufffd" not in decoded:
            return decoded
    return values.tolist()


def _header(cursor: _Cursor) -> tuple[int, str]:
    version = cursor.number("I")
    if version not in (3, 4):
        cursor.fail("not a DM3 or DM4 file", 0, expected="version 3 or 4", got=version)
    cursor.number("Q" if version == 4 else "I")  # size of the tree; often wrong
    little = cursor.number("I")
    if little not in (0, 1):
        cursor.fail("impossible byte order", cursor.at - 4, expected="0 or 1", got=little)
    return version, "<" if little else ">"


def read_tags(path: Path, *, allow_truncated: bool = False) -> TagFile:
    """Parse the tags of a file; arrays larger than a few kilobytes are only located.

    Parameters
    ----------
    path : Path
    allow_truncated : bool
        Keep what was parsed before the file ends or makes no sense; see `TagFile.damage`.

    Raises
    ------
    CorruptFile
        The tree is damaged or cut off; names the byte where it stopped to make sense.
    """
    cursor = _Cursor(path)
    try:
        parser = _Parser(cursor)
        tags: dict[str, Any] = {}
        damage = None
        try:
            parser.group(tags)
        except CorruptFile as error:
            if not allow_truncated:
                raise
            damage = error
        return TagFile(parser.version, parser.order, tags, cursor.size, damage)
    finally:
        cursor.close()


def number_at(tags: Any, *path: str) -> float | None:
    """A finite number somewhere in a tree, or None."""
    value = value_at(tags, *path)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def value_at(tags: Any, *path: str) -> Any:
    """Whatever is at a path of a tree, or None."""
    for name in path:
        if not isinstance(tags, dict) or name not in tags:
            return None
        tags = tags[name]
    return tags
