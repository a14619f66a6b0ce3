"""The Batch menu: a recipe over many files."""

from __future__ import annotations

from typing import Any

__all__ = ["Handlers"]


class Handlers:
    """What the actions of the menu do; all in the panel of runs."""

    def __init__(self, window: Any) -> None:
        self._window = window

    def _panel(self) -> Any:
        return self._window.show_panel("batch")

    def panel(self) -> None:
        """Show it."""
        self._panel()

    def from_project(self) -> None:
        self._panel().take_project()

    def open_recipe(self) -> None:
        self._panel().ask_recipe()

    def add_files(self) -> None:
        panel = self._panel()
        panel.tabs.setCurrentWidget(panel.files)
        panel.files.choose()

    def attach(self) -> None:
        self._panel().ask_attach()

    def dry_run(self) -> None:
        self._press("dry")

    def run(self) -> None:
        self._press("run")

    def stop(self) -> None:
        self._press("stop")

    def retry(self) -> None:
        self._press("retry")

    def report(self) -> None:
        self._press("report")

    def _press(self, name: str) -> None:
        """As the button; one that cannot be pressed says why."""
        self._panel().press(name)
