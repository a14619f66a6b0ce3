"""A page as a value, and how it becomes HTML: no script, no link outside, every string escaped."""

from __future__ import annotations

import base64
import io
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from py4DSTEM.errors import StoreError

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

__all__ = ["Figure", "Mark", "Page", "Section", "Table", "Text", "html_page", "write_html"]


@dataclass(frozen=True)
class Text:
    """Paragraphs, divided by empty lines; `mono` keeps every line and space as it is."""

    text: str
    mono: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells under a head.

    Numbers are shown with six digits and aligned right; True and False, and `Mark`, in colour; a
    `Figure` as a thumbnail.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""


@dataclass(frozen=True)
class Figure:
    """A PNG image with its caption."""

    png: bytes
    caption: str = ""

    @classmethod
    def of(cls, figure: MatplotlibFigure, caption: str = "", dpi: float = 110) -> Figure:
        """Render a matplotlib figure."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi)
        return cls(buffer.getvalue(), caption)


@dataclass(frozen=True)
class Mark:
    """A word in the colour of what it means; `note` stands below it."""

    text: str
    kind: Literal["good", "fair", "bad", "soft"] = "good"
    note: str = ""


Part = Text | Table | Figure


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it; a folded one opens on a click."""

    title: str
    parts: Sequence[Part]
    folded: bool = False


@dataclass(frozen=True)
class Page:
    """A whole report."""

    title: str
    sections: Sequence[Section]
    subtitle: str = ""


_STYLE = """
:root { color-scheme: light dark; --text: #1d2430; --soft: #5b6675; --line: #d8dde4;
        --back: #ffffff; --card: #f6f7f9; --good: #1b7f3b; --fair: #8a5a00; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e7ec; --soft: #9aa4b2; --line: #3a424e; --back: #14171c; --card: #1c2027;
          --good: #5fc27e; --fair: #e0b050; --bad: #ff8a80; } }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--text); background: var(--back);
       max-width: 62rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; margin: 0; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
.soft, figcaption, caption { color: var(--soft); font-size: .9rem; }
table { border-collapse: collapse; margin: .6rem 0 1rem; font-size: .93rem; }
caption { text-align: left; padding-bottom: .3rem; }
th, td { padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); text-align: left;
         vertical-align: top; overflow-wrap: anywhere; }
td.number { text-align: right; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
.wide { overflow-x: auto; }
figure { margin: 1rem 0; } img { max-width: 100%; background: #fff; border-radius: 4px; }
pre { background: var(--card); padding: .7rem .9rem; overflow-x: auto; font-size: .85rem; }
summary { cursor: pointer; font-size: 1.2rem; font-weight: 600; margin: 2.2rem 0 .6rem; }
td.thumb { min-width: 11rem; } td.thumb img { width: 11rem; display: block; }
td.thumb img:hover { transform: scale(2.6); transform-origin: 30% 0; position: relative;
                     z-index: 1; box-shadow: 0 0 8px #0006; }
th { overflow-wrap: normal; white-space: nowrap; }
.broad { width: calc(100vw - 4rem); margin-left: calc(50% - 50vw + 2rem); min-height: 24rem; }
.broad td:first-child { min-width: 9rem; }
td.mark { min-width: 6rem; } .note { color: var(--soft); font-size: .85rem; font-weight: 400; }
.good { color: var(--good); } .fair { color: var(--fair); font-weight: 600; }
.bad { color: var(--bad); font-weight: 600; }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def html_page(page: Page) -> str:
    """The page as one HTML document that needs nothing else."""
    sections = "\n".join(map(_section, page.sections))
    subtitle = f'<p class="soft">{escape(page.subtitle)}</p>' if page.subtitle else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(page.title)}</title><style>{_STYLE}</style></head>
<body><h1>{escape(page.title)}</h1>{subtitle}
{sections}
</body></html>
"""


def write_html(path: str | os.PathLike[str], page: Page) -> Path:
    """Write a page; the file appears whole or not at all.

    Returns
    -------
    Path
        Where it was written.

    Raises
    ------
    StoreError
        Writing failed; a file that was there before is unharmed.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        with open(part, "x", encoding="utf-8") as f:
            f.write(html_page(page))
            f.flush()
            os.fsync(f.fileno())
        os.replace(part, target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StoreError(
            "the report could not be written",
            path=target,
            got=error.strerror or str(error),
            hint="Check that the folder exists and can be written to",
        ) from error
    return target


def _section(section: Section) -> str:
    body = "\n".join(map(_part, section.parts))
    title = escape(section.title)
    if section.folded:
        return f"<details><summary>{title}</summary>{body}</details>"
    return f"<section><h2>{title}</h2>{body}</section>"


def _part(part: Part) -> str:
    if isinstance(part, Text):
        return _text(part)
    return _table(part) if isinstance(part, Table) else _figure(part)


def _text(part: Text) -> str:
    if part.mono:
        return f"<pre>{escape(part.text)}</pre>"
    return "".join(f"<p>{escape(p)}</p>" for p in part.text.split("\n\n") if p.strip())


def _figure(part: Figure) -> str:
    caption = f"<figcaption>{escape(part.caption)}</figcaption>" if part.caption else ""
    return f"<figure>{_image(part)}{caption}</figure>"


def _image(figure: Figure) -> str:
    data = base64.b64encode(figure.png).decode("ascii")
    alt = escape(figure.caption, quote=True)
    return f'<img alt="{alt}" src="data:image/png;base64,{data}">'


def _table(part: Table) -> str:
    caption = f"<caption>{escape(part.caption)}</caption>" if part.caption else ""
    head = "".join(f"<th>{escape(name)}</th>" for name in part.head)
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in part.rows)
    broad = any(isinstance(cell, Figure) for row in part.rows for cell in row)
    kind = "wide broad" if broad else "wide"
    return f'<div class="{kind}"><table>{caption}<tr>{head}</tr>{rows}</table></div>'


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        kind, mark = ("good", "✓") if value else ("bad", "✗ failed")
        return f'<td class="{kind}">{mark}</td>'
    if isinstance(value, Figure):
        return f'<td class="thumb">{_image(value)}</td>'
    if isinstance(value, Mark):
        note = f'<div class="note">{escape(value.note)}</div>' if value.note else ""
        return f'<td class="mark {value.kind}">{escape(value.text)}{note}</td>'
    if isinstance(value, int | float):
        return f'<td class="number">{value:.6g}</td>'
    return f"<td>{escape(str(value))}</td>"
