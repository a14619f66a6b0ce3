"""What an act of the user is: a frozen description that makes a new project from the old one."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from py4DSTEM.core.parameters import Parameters
from py4DSTEM.gui.state.project import Project

__all__ = ["COMMANDS", "Command"]

COMMANDS: dict[str, type[Command]] = {}
"""All commands by kind: so that a journal of acts can be read again."""


class Command(Parameters):
    """An act: subclass with ``kind="..."``; the fields say all there is to know about it."""

    kind: ClassVar[str] = ""

    def __init_subclass__(cls, kind: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if kind:
            cls.kind = kind
            COMMANDS[kind] = cls

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Swallow the class arguments that pydantic would otherwise pass to its configuration."""

    @abstractmethod
    def apply(self, project: Project) -> Project:
        """The project after the act; raises `ParameterError` where it makes no sense."""

    def label(self) -> str:
        """A few words for the Edit menu."""
        return self.kind.replace("-", " ")

    def merges_with(self, earlier: Command) -> bool:
        """Whether undoing this act should also undo `earlier`, as along one drag of the mouse."""
        return False
