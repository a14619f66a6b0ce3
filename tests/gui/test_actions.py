"""The table of actions: complete, without clashes, and true in the documentation."""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from py4DSTEM.errors import ParameterError
from py4DSTEM.gui.state.actions import ACTIONS, MENUS, by_id, keys, rebound, sheet
from py4DSTEM.gui.state.fuzzy import ranked

DOCS = Path(__file__).parents[2] / "docs" / "desktop.md"


class Window:
    """Stands for the window while handlers are only looked at."""

    session = None
    safe = True

    class preferences:
        autosave_s = 0


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.id)
def test_every_action_has_a_handler_and_explains_itself(action: Any) -> None:
    assert action.help.endswith(".") and action.text
    assert not action.menu or action.menu.partition("/")[0] in MENUS
    assert action.menu or action.keys, "an action that nothing leads to"
    name = f"py4DSTEM.gui.handlers.{action.module}"
    if find_spec(name) is None:
        pytest.skip(f"{name} is not there")
    assert action.method in dir(import_module(name).Handlers) or callable(
        getattr(bare(name), action.method)
    )


def bare(name: str) -> Any:
    """Handlers without a window: what answers to names is all that is asked."""
    return object.__new__(import_module(name).Handlers)


def test_no_name_answers_to_nonsense() -> None:
    with pytest.raises(AttributeError):
        bare("py4DSTEM.gui.handlers.detector").up_slowly  # noqa: B018


def test_ids_are_unique_and_no_two_share_a_key() -> None:
    assert max(Counter(action.id for action in ACTIONS).values()) == 1
    used = Counter(key.lower() for found in keys().values() for key in found)
    assert [key for key, count in used.items() if count > 1] == []


def test_qt_knows_every_key(qtbot: Any) -> None:
    from pyqtgraph.Qt import QtGui

    for action in ACTIONS:
        for key in action.keys:
            sequence = QtGui.QKeySequence(key)
            assert sequence.count() == 1 and sequence.toString(), (action.id, key)


def test_keys_that_are_taken_are_refused() -> None:
    with pytest.raises(ParameterError, match=r"belongs to 'Open…'"):
        rebound({}, "edit.undo", ["ctrl+o"])
    freed = rebound({}, "file.open", [])
    assert keys(rebound(freed, "edit.undo", ["Ctrl+O"]))["edit.undo"] == ("Ctrl+O",)
    with pytest.raises(ParameterError, match="no action"):
        rebound({}, "file.nonsense", ["Ctrl+O"])


def test_the_sheet_of_the_documentation_is_that_of_the_table() -> None:
    assert sheet() in DOCS.read_text(encoding="utf-8"), "run docs/make_shortcuts.py"


def test_the_palette_finds_by_letters() -> None:
    names = {action.id: f"{action.menu} {action.text}" for action in ACTIONS if action.menu}
    assert ranked("haadf", names)[0] == "detector.preset_haadf"
    assert ranked("undo", names)[0] == "edit.undo"
    assert ranked("expfig", names)[0] == "file.export_figure"
    assert ranked("qqqq", names) == []
    assert by_id(ranked("", names)[0]) in ACTIONS
