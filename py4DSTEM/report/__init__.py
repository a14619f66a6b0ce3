"""Reports: results, figures and provenance as one self-contained HTML page.

>>> from py4DSTEM.report import Page, Section, Table, Text, html_page
>>> result = Section("Result", (Text("As expected."), Table(("q", "I"), ((1, 2),))))
>>> page = Page("Scan 12", (result,))
>>> html_page(page).startswith("<!doctype html>")
True
"""

from py4DSTEM.report.page import Figure, Page, Section, Table, Text, html_page, write_html
from py4DSTEM.report.sections import history_section, timings_section, versions_section

__all__ = [
    "Figure",
    "Page",
    "Section",
    "Table",
    "Text",
    "history_section",
    "html_page",
    "timings_section",
    "versions_section",
    "write_html",
]
