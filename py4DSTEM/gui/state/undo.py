"""Undo and redo: the projects between the acts are kept, which costs little as they share parts."""

from __future__ import annotations

from dataclasses import dataclass

from py4DSTEM.gui.state.command import Command
from py4DSTEM.gui.state.project import Project

__all__ = ["Undo"]

LIMIT = 200


@dataclass(frozen=True, eq=False)
class _Act:
    command: Command
    before: Project
    after: Project


class Undo:
    """The present project, and the way back and forth.

    Parameters
    ----------
    project : Project
    limit : int
        Acts that can be undone.
    """

    def __init__(self, project: Project | None = None, limit: int = LIMIT) -> None:
        self._project = project or Project()
        self._past: list[_Act] = []
        self._future: list[_Act] = []
        self._limit = limit

    @property
    def project(self) -> Project:
        """The project as it is now."""
        return self._project

    def do(self, command: Command) -> Project:
        """Apply a command; one that fails leaves everything as it was."""
        before = self._project
        after = command.apply(before)
        if self._past and command.merges_with(self._past[-1].command):
            before = self._past.pop().before
        self._past.append(_Act(command, before, after))
        del self._past[: -self._limit]
        self._future.clear()
        self._project = after
        return after

    def undo(self) -> Project:
        """Go one act back; at the beginning nothing happens."""
        if self._past:
            self._future.append(self._past.pop())
            self._project = self._future[-1].before
        return self._project

    def redo(self) -> Project:
        """Do again what was undone last."""
        if self._future:
            self._past.append(self._future.pop())
            self._project = self._past[-1].after
        return self._project

    def forget(self) -> None:
        """Keep the project and drop the ways back and forth."""
        self._past.clear()
        self._future.clear()

    @property
    def undo_label(self) -> str:
        """What `undo` would undo, or ""."""
        return self._past[-1].command.label() if self._past else ""

    @property
    def redo_label(self) -> str:
        """What `redo` would do again, or ""."""
        return self._future[-1].command.label() if self._future else ""

    @property
    def acts(self) -> tuple[Command, ...]:
        """The commands that led here, oldest first."""
        return tuple(act.command for act in self._past)
