"""Every format of the registry keeps the promises of the kit: registering it is testing it."""

from __future__ import annotations

import pytest

from py4DSTEM.io.format import registered_formats
from py4DSTEM.testing.formats import check_format


@pytest.mark.parametrize("name", sorted(registered_formats()))
def test_format_keeps_its_promises(name: str) -> None:
    check_format(registered_formats()[name])


def test_docs_list_every_format() -> None:
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    assert not [name for name in registered_formats() if f"`{name}`" not in page]
