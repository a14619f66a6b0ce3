"""What follows a drag calmly still ends with its last state."""

from __future__ import annotations

from typing import Any

from py4DSTEM.gui.views.calm import Calm


def test_the_first_call_comes_at_once_and_the_last_one_is_not_lost(qtbot: Any) -> None:
    seen: list[int] = []
    calm = Calm(seen.append, 30)
    for number in range(5):
        calm(number)
    assert seen == [0] and calm.resting
    qtbot.waitUntil(lambda: not calm.resting)
    assert seen == [0, 4]
