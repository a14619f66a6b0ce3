"""The XML parser of all formats."""

from pathlib import Path

from harness import Target, fuzz


def make() -> Target:
    from py4DSTEM.errors import CorruptFile
    from py4DSTEM.io.safe_xml import parse_xml

    def target(data: bytes) -> None:
        try:
            tree = parse_xml(data, Path("a.xml"), "xml").tree()
        except CorruptFile:
            return
        if not isinstance(tree, (str, dict)):
            raise TypeError(tree)

    return target


def seeds() -> list[bytes]:
    return [
        b"<a><b c='1'>2</b><b/></a>",
        b'<?xml version="1.0" encoding="utf-16"?><a/>',
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        b"<a><![CDATA[x]]></a>",
    ]


if __name__ == "__main__":
    fuzz(make, seeds, "py4DSTEM.io.safe_xml")
