"""Asking for the name of a file without holding the program up, and writing it as a job."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyqtgraph.Qt import QtCore, QtWidgets

from py4DSTEM.gui.session import Session
from py4DSTEM.io.store import atomic

__all__ = ["ask_save", "write_job", "write_whole"]


def ask_save(
    parent: QtWidgets.QWidget | None,
    title: str,
    name: str,
    filters: str,
    then: Callable[[str], Any],
) -> Any:
    """Ask where something is to be saved; `then` gets the path, with an extension.

    Parameters
    ----------
    parent : QWidget, optional
    title : str
    name : str
        What the file might be called.
    filters : str
        As Qt writes them: ``"Image (*.png);;Values (*.tif)"``.  The extension of the chosen one is
        added where none is typed.
    then : callable
    """
    dialog = QtWidgets.QFileDialog(parent, title, name, filters)
    dialog.setAcceptMode(QtWidgets.QFileDialog.AcceptMode.AcceptSave)
    dialog.setAttribute(QtCore.Qt.WidgetAttribute.WA_DeleteOnClose)

    def suffix(chosen: str) -> None:
        dialog.setDefaultSuffix(_suffix_of(chosen))

    suffix(dialog.selectedNameFilter())
    dialog.filterSelected.connect(suffix)
    dialog.fileSelected.connect(then)
    dialog.open()
    return dialog


def _suffix_of(filter: str) -> str:
    """
    >>> _suffix_of("Image, as shown (*.png *.jpg)"), _suffix_of("All files (*)")
    ('png', '')
    """
    first = filter.rpartition("(")[2].rstrip(")").split(" ")[0]
    return first[2:] if first.startswith("*.") else ""


def write_job(session: Session, path: str, write: Callable[[Any], Any]) -> Any:
    """Write a file beside the window; what goes wrong is told, and an old file is unharmed.

    Parameters
    ----------
    session : Session
    path : str
    write : callable
        Called with `RunOptions`.
    """
    name = Path(path).name
    return session.jobs.submit(
        f"save {name}",
        write,
        done=lambda _: session.said.emit(f"saved {path}"),
        failed=lambda error: session.troubled.emit(f"save {name}", error),
    )


def write_whole(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write a file that appears whole or not at all; text as UTF-8."""
    with atomic.replacing(path) as part:
        atomic.write_bytes(part, data.encode() if isinstance(data, str) else data)
