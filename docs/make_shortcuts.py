"""Write the table of shortcuts into ``desktop.md``, from the table of actions."""

from __future__ import annotations

from pathlib import Path

from py4DSTEM.gui.state.actions import sheet

BEGIN, END = "<!-- shortcuts -->\n", "<!-- end of shortcuts -->"


def main() -> None:
    """Replace what lies between the marks."""
    path = Path(__file__).with_name("desktop.md")
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}{sheet()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
