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
        """Apply a command; one that fails, or changes nothing, leaves everything as it was."""
        before = self._project
        after = command.apply(before)
        # After an undo the last act is an older one, which was not part of this drag.
        joins = bool(self._past) and not self._future
        joins = joins and command.merges_with(self._past[-1].command)
        if after is before and not joins:
            return after
        if joins:
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

    def forget_scan(self, key: str) -> None:
        """Drop a closed scan, and all that was done to it, from the ways back and forth.

        What its results hold is freed.  A scan that is open is kept.
        """
        if any(scan.key == key for scan in self._project.scans):
            return
        self._past = _without(self._past, key)
        self._future = _without(self._future, key)

    def closed_scans(self) -> tuple[str, ...]:
        """Keys of the scans that are not open and that undo or redo would bring back.

        In the order in which they would come back: the last one was closed last.
        """
        here = {scan.key for scan in self._project.scans}
        acts = (*self._future, *self._past)
        kept = (scan.key for act in acts for scan in (*act.after.scans, *act.before.scans))
        return tuple(dict.fromkeys(key for key in kept if key not in here))

    def can_reopen(self, key: str) -> bool:
        """Whether a closed scan came from a file, which undo would open again."""
        acts = (*self._past, *self._future)
        scans = (scan for act in acts for scan in (*act.before.scans, *act.after.scans))
        return any(scan.key == key and scan.source.path is not None for scan in scans)

    @property
    def undo_label(self) -> str:
        """What `undo` would undo, or ""."""
        return self._past[-1].command.label() if self._past else ""

    @property
    def redo_label(self) -> str:
        """What `redo` would do again, or ""."""
        return self._future[-1].command.label() if self._future else ""

    @property
    def last(self) -> Command | None:
        """The command that led here last."""
        return self._past[-1].command if self._past else None

    @property
    def acts(self) -> tuple[Command, ...]:
        """The commands that led here, oldest first."""
        return tuple(act.command for act in self._past)


def _without(acts: list[_Act], key: str) -> list[_Act]:
    """Acts as if that scan had never been open; those that were about it alone fall away."""
    known: dict[int, Project] = {}

    def clean(project: Project) -> Project:
        # One project is the end of an act and the beginning of the next, and must stay so.
        return known.setdefault(id(project), project.without(key))

    return [
        _Act(act.command, clean(act.before), clean(act.after))
        for act in acts
        if not _is_about(act.command, key)
    ]


def _is_about(command: Command, key: str) -> bool:
    opened = getattr(command, "scan", None)
    return key in (getattr(command, "key", None), getattr(opened, "key", None))
