"""Take the picture of the report of a run: python docs/images/report.py [BROWSER]

Needs Chromium or Chrome, which draws the page without a window.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import py4DSTEM
from py4DSTEM.recipe.templates import template_path

HERE = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SIZE = (1860, 1120)


def write_scans(folder: Path) -> list[Path]:
    """Strained crystals under more and more dose, one with hardly any, one file cut off."""
    paths = []
    for k, dose in enumerate((40_000, 20_000, 10_000, 600, 20_000)):
        paths.append(folder / f"SiGe_{k + 1:03d}.h5")
        scan = py4DSTEM.simulate.strained_lattice((24, 32), (96, 96), dose=dose, seed=k)
        py4DSTEM.save(paths[-1], scan.cube)
    whole = paths[-1].read_bytes()
    paths[-1].write_bytes(whole[: len(whole) // 2])
    return paths


def photograph(browser: str, page: Path, out: Path, home: Path) -> None:
    """The page as a browser draws it."""
    words = [browser, "--headless", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={home}",
             f"--window-size={SIZE[0]},{SIZE[1]}", f"--screenshot={out}"]  # fmt: skip
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # which Chromium refuses with its sandbox
        words.append("--no-sandbox")
    subprocess.run([*words, page.as_uri()], check=True, timeout=120, stderr=subprocess.DEVNULL)


def main() -> int:
    given = sys.argv[1:] or [found for name in BROWSERS if (found := shutil.which(name))]
    if not given:
        sys.stderr.write(f"no browser: one of {', '.join(BROWSERS)} is needed\n")
        return 1
    with tempfile.TemporaryDirectory(prefix="strain_") as name:
        folder = Path(name)
        py4DSTEM.run_recipe(template_path("strain"), write_scans(folder), folder / "results")
        page = py4DSTEM.write_report(folder / "results")
        photograph(given[0], page, HERE / "report.png", folder / "browser")
    return 0


if __name__ == "__main__":
    sys.exit(main())
