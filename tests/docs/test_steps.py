"""The page of the steps is that of the steps as they are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def make_steps():
    spec = importlib.util.spec_from_file_location("make_steps", DOCS / "make_steps.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current() -> None:
    text = (DOCS / "steps.md").read_text(encoding="utf-8")
    assert text == make_steps().page(), "run docs/make_steps.py"


def test_every_step_and_every_parameter_is_there() -> None:
    page = make_steps().page()
    for kind, cls in make_steps().our_steps().items():
        start = page.index(f"\n## {kind}\n")
        section = page[start : page.find("\n## ", start + 1)]
        for name in cls.model_fields:
            assert f"| `{name}` |" in section, (kind, name)
        for doi in cls.cites:
            assert doi in section
    assert "| `corr_power` | number ≥ 0, ≤ 1 |" in page
    assert "| `max_distance_px` | number > 0 | px | `none` |" in page
