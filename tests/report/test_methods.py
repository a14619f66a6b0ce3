"""What was done, in words and as BibTeX that a reference manager reads."""

import re

from py4DSTEM.core.history import History, Step
from py4DSTEM.process import load_analyses, load_operations
from py4DSTEM.report.methods import methods_text, steps_of
from py4DSTEM.report.references import REFERENCES, bibtex, cited_as

CITED = {doi for cls in {**load_operations(), **load_analyses()}.values() for doi in cls.cites}


def fields(entry):
    return dict(re.findall(r"^  (\w+) = \{(.*)\},?$", entry, flags=re.MULTILINE))


def test_entries():
    text = bibtex(REFERENCES, version="1.2")
    entries = text.split("\n\n")
    assert len(entries) == len(REFERENCES) + 1 and entries[0].startswith("@software{py4DSTEM,")
    keys = re.findall(r"^@\w+\{([^,]+),$", text, flags=re.MULTILINE)
    assert len(set(keys)) == len(keys) == len(entries)
    for doi, entry in zip(REFERENCES, entries[1:], strict=True):
        found = fields(entry)
        assert found["doi"] == doi and found["title"].startswith("{")
        assert {"author", "title", "journal", "volume", "pages", "year"} <= found.keys()
        assert entry.count("{") == entry.count("}")
        assert 1900 < int(found["year"]) < 2030 and "," in found["author"]


def test_each_once():
    doi = "10.1038/nmat1266"
    assert bibtex([doi, doi]) == bibtex([doi]) and bibtex([doi]).count("@article") == 1
    assert bibtex([]) == ""


def test_unknown_papers_keep_their_doi():
    text = bibtex(["10.1234/a_b%c"])
    assert text.startswith("@misc{doi:10.1234/a-b-c,")
    assert fields(text)["doi"] == r"10.1234/a\_b\%c"


def test_most_cited_papers_are_in_the_table():
    assert len(CITED & REFERENCES.keys()) >= len(CITED) - 1


def test_authors_in_words():
    assert cited_as(["10.1109/TIP.2011.2181402"]).startswith("Padfield (2012), doi:")
    assert cited_as(["10.1080/00031305.1983.10483115"]).startswith("Chan et al. (1983)")
    assert cited_as([]) == ""


def test_steps_once_unless_their_parameters_differ():
    first = History().then("a", {"x": 1}).then("b", {"x": (1, 2)})
    second = History().then("a", {"x": 2}).then("b", {"x": [1, 2]})
    assert [(s.kind, s.parameters["x"]) for s in steps_of([first, second])] == [
        ("a", 1), ("b", (1, 2)), ("a", 2),
    ]  # fmt: skip


def test_only_what_was_chosen_is_listed():
    steps = (
        Step("find", 3, {"edge_px": 4, "factor": 16}, "", ("10.1038/nmat1266",)),
        Step("map", 1, {"mask": [[0] * 100] * 100}),
    )
    text = methods_text(
        steps,
        {"py4DSTEM": "1.0", "numpy": "2.1"},
        about={"find": "Finds disks."},
        defaults={"find": {"edge_px": 4, "factor": 8}},
    )
    assert text.startswith("The data were analysed with py4DSTEM 1.0 (numpy 2.1).\n\n1. find")
    assert "factor = 16 [Poulsen" in " ".join(text.split()) and "edge_px" not in text
    assert "find, version 3: Finds disks, with" in " ".join(text.split())
    assert "mask = (100 values)" in text and max(map(len, text.splitlines())) <= 80
