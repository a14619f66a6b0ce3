"""Reports hold everything, execute nothing, and are written whole."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from py4DSTEM import History, StoreError
from py4DSTEM.report import (
    Figure,
    Mark,
    Page,
    Section,
    Table,
    Text,
    history_section,
    html_page,
    timings_section,
    versions_section,
    write_html,
)

ATTACK = '"><script>alert(1)</script><img src=x onerror=alert(1)>'


class Structure(HTMLParser):
    """Checks that tags nest, and collects them."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.attributes = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parse(html):
    structure = Structure()
    structure.feed(html)
    assert structure.open == []
    return structure


def test_everything_is_escaped():
    history = History().then(ATTACK, {ATTACK: ATTACK}, cites=(ATTACK,))
    page = Page(
        ATTACK,
        (
            Section(ATTACK, (Text(ATTACK), Text(ATTACK, mono=True), Figure(b"png", ATTACK))),
            Section(ATTACK, (Table((ATTACK,), ((ATTACK,),), ATTACK),), folded=True),
            history_section(history),
            timings_section({ATTACK: 1.0}),
        ),
        ATTACK,
    )
    html = html_page(page)
    structure = parse(html)
    assert "script" not in structure.seen and structure.seen.count("img") == 1
    assert not [name for name, _ in structure.attributes if name.startswith("on")]


def test_page_needs_nothing_else():
    page = Page("t", (Section("s", (Figure(b"abc", "c"),)), versions_section()))
    html = html_page(page)
    assert parse(html).seen[0] == "html"
    assert 'src="data:image/png;base64,YWJj"' in html
    assert not re.findall(r'(?:src|href)="(?!data:)', html)
    assert "prefers-color-scheme: dark" in html and "numpy" in html


def test_cells():
    html = html_page(
        Page("t", (Section("s", (Table("abcd", ((True, False, 1.23456789, "x"),)),)),))
    )
    assert '<td class="good">✓</td><td class="bad">✗ failed</td>' in html
    assert '<td class="number">1.23457</td><td>x</td>' in html


def test_marks_and_thumbnails_in_cells():
    row = (Mark("done"), Mark(ATTACK, "bad", ATTACK), Figure(b"abc", ATTACK))
    html = html_page(Page("t", (Section("s", (Table("abc", (row,)),)),)))
    structure = parse(html)
    assert "script" not in structure.seen and structure.seen.count("img") == 1
    assert '<td class="mark good">done</td><td class="mark bad">' in html
    assert '<td class="thumb"><img ' in html and html.count('class="note"') == 1


def test_figures_from_matplotlib():
    from matplotlib.figure import Figure as MatplotlibFigure

    figure = MatplotlibFigure()
    figure.subplots().imshow(np.eye(3))
    assert Figure.of(figure, dpi=30).png.startswith(b"\x89PNG")


def test_written_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "report.html"
    assert write_html(target, Page("first", ())) == target
    before = target.read_text(encoding="utf-8")
    assert before == html_page(Page("first", ()))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(StoreError, match="No space left"):
        write_html(target, Page("second", ()))
    assert target.read_text(encoding="utf-8") == before
    assert list(tmp_path.iterdir()) == [target]


def test_missing_folder(tmp_path):
    with pytest.raises(StoreError, match="folder exists"):
        write_html(tmp_path / "none" / "report.html", Page("t", ()))
