"""Reports: results, figures and provenance as one self-contained HTML page.

>>> from py4DSTEM.report import Page, Section, Table, Text, html_page
>>> result = Section("Result", (Text("As expected."), Table(("q", "I"), ((1, 2),))))
>>> page = Page("Scan 12", (result,))
>>> html_page(page).startswith("<!doctype html>")
True
"""

from py4DSTEM.report.methods import methods_text
from py4DSTEM.report.page import Figure, Mark, Page, Section, Table, Text, html_page, write_html
from py4DSTEM.report.quantities import QUANTITIES, numbers_of
from py4DSTEM.report.references import bibtex
from py4DSTEM.report.sections import history_section, timings_section, versions_section

__all__ = [
    "QUANTITIES",
    "Figure",
    "Mark",
    "Page",
    "Section",
    "Table",
    "Text",
    "bibtex",
    "history_section",
    "html_page",
    "methods_text",
    "numbers_of",
    "timings_section",
    "versions_section",
    "write_html",
]
