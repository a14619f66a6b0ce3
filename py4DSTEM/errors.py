"""The errors and warnings of the package.

Every error says what is wrong, where, what was expected and what to do, and is
also a subclass of the builtin that callers would catch anyway.
"""

from __future__ import annotations

from os import PathLike, fspath

__all__ = [
    "CalibrationMissing",
    "Cancelled",
    "ClusterError",
    "CorruptFile",
    "DependencyMissing",
    "FileMissing",
    "FormatError",
    "MemoryBudgetError",
    "ParameterError",
    "Py4DSTEMError",
    "Py4DSTEMWarning",
    "ShapeError",
    "SolveError",
    "StoreError",
    "UnknownFormat",
]


class Py4DSTEMError(Exception):
    """Base of all errors raised by the package."""

    def __reduce__(self) -> tuple[object, ...]:
        # Errors travel between processes, also those whose message is composed from parts.
        return _restored, (type(self), self.args), self.__dict__


def _restored(kind: type[Py4DSTEMError], args: tuple[object, ...]) -> Py4DSTEMError:
    return kind.__new__(kind, *args)


class ParameterError(Py4DSTEMError, ValueError):
    """A parameter has a value that makes no sense."""


class ShapeError(Py4DSTEMError, ValueError):
    """Arrays, detectors or scans do not fit together."""


class CalibrationMissing(Py4DSTEMError, LookupError):
    """Something was asked for that has not been calibrated; names what measures it."""

    def __init__(self, quantity: str, remedy: str) -> None:
        self.quantity = quantity
        super().__init__(f"no {quantity} in the calibration: {remedy}")


class MemoryBudgetError(Py4DSTEMError, MemoryError):
    """The work does not fit into the memory that it may use."""


class SolveError(Py4DSTEMError, RuntimeError):
    """An iteration failed to converge or met invalid numbers."""


class Cancelled(Py4DSTEMError, RuntimeError):
    """The work was stopped by whoever asked for it."""


class ClusterError(Py4DSTEMError, RuntimeError):
    """A cluster of workers lost its scheduler or its workers, or runs another version."""


class DependencyMissing(Py4DSTEMError, ImportError):
    """An optional package is needed; the message holds the install command."""

    def __init__(self, package: str, purpose: str, extra: str | None = None) -> None:
        target = f'"py4DSTEM[{extra}]"' if extra else package
        super().__init__(f"{purpose} needs {package}: pip install {target}", name=package)


class _FileError(Py4DSTEMError, OSError):
    """Compose ``path: what (format …, at byte …; expected …, got …). hint``."""

    def __init__(
        self,
        what: str,
        *,
        path: str | PathLike[str] | None = None,
        format: str | None = None,
        offset: int | None = None,
        expected: object = None,
        got: object = None,
        hint: str | None = None,
    ) -> None:
        self.what = what
        self.path = None if path is None else fspath(path)
        self.format = format
        self.offset = offset
        self.expected = expected
        self.got = got
        self.hint = hint
        super().__init__(self._message())

    def _message(self) -> str:
        where = "" if self.path is None else f"{self.path}: "
        details = [
            text
            for value, text in (
                (self.format, f"format {self.format}"),
                (self.offset, f"at byte {self.offset}"),
                (self.expected, f"expected {self.expected}"),
                (self.got, f"got {self.got}"),
            )
            if value is not None
        ]
        inner = f" ({', '.join(details)})" if details else ""
        tail = f". {self.hint}" if self.hint else ""
        return f"{where}{self.what}{inner}{tail}"

    def __str__(self) -> str:
        return self._message()

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self._fields()), self.__dict__

    def _fields(self) -> dict[str, object]:
        names = ("path", "format", "offset", "expected", "got", "hint")
        return {name: getattr(self, name) for name in names}


def _rebuild(kind: type[_FileError], what: str, fields: dict[str, object]) -> _FileError:
    return kind(what, **fields)  # type: ignore[arg-type]


class FormatError(_FileError, ValueError):
    """A file cannot be read: the base of what `read` raises about a file."""


class FileMissing(FormatError, FileNotFoundError):
    """There is no file of that name."""


class UnknownFormat(FormatError):
    """No format recognises the file."""


class CorruptFile(FormatError):
    """The file is of a known format and damaged, truncated or inconsistent."""


class StoreError(_FileError):
    """Writing failed; nothing that was on disk before has been harmed."""


class Py4DSTEMWarning(UserWarning):
    """Something was assumed or repaired; the message says what."""
