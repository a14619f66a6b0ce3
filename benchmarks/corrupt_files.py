"""Damage files in thousands of ways; count what became of them.

    python benchmarks/corrupt_files.py FOLDER [FOLDER ...] [--own] [--count 45] [--json F]

Every file below the folders (with ``--own`` also one of every kind that this package writes, and
of the cameras whose files can be made up) is read damaged: cut, also where its structures begin
and end, bits flipped, integers planted, zeroed, blocks lost, digits changed; then whole under the
extension of every other format; and as an empty file, a folder, a FIFO, a circle of links.  Each
case runs in a child process.  Prints a Markdown table; the exit status is 1 after any failure.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from boundaries import cuts

import py4DSTEM
from py4DSTEM.errors import DependencyMissing, Py4DSTEMError
from py4DSTEM.io.format import Source, detect
from py4DSTEM.testing.formats import FAILURES, DamageReport, survey_damage, survey_places

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "io"))

COLUMNS = ("refused", "same", "said", "changed", "skipped", *FAILURES)
NOT_DATA = {".json", ".md", ".npz", ".txt"}


# ---- seeds ---------------------------------------------------------------------------------------
def seeds(folder: Path) -> Iterator[Path]:
    """Data files below a folder; a Zarr folder counts as one."""
    if (folder / ".zgroup").exists() or (folder / "zarr.json").exists():
        yield folder
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from seeds(path)
        elif path.suffix.lower() not in NOT_DATA and path.stat().st_size:
            yield path


def write_own(folder: Path) -> None:
    """One file of every kind that the package writes."""
    rng = np.random.default_rng(0)
    cube = py4DSTEM.DataCube(rng.poisson(3, (5, 7, 12, 16)).astype(np.uint16), name="scan")
    table = np.zeros(40, [("qx", "f8"), ("qy", "f8"), ("intensity", "f4")])
    offsets = np.concatenate([[0], np.sort(rng.integers(0, 41, 34)), [40]])
    image = py4DSTEM.RealSlice(rng.normal(size=(5, 7)), name="image")
    results = {
        "image": image,
        "stack": py4DSTEM.DiffractionSlice(rng.normal(size=(3, 12, 16)), labels=("a", "b", "c")),
        "bragg": py4DSTEM.PointTable(table, offsets, (5, 7), name="bragg"),
        "curve": py4DSTEM.ArrayResult(rng.normal(size=(3, 4))),
    }
    for compression in ("gzip", "bitshuffle", "zstd", "none"):
        py4DSTEM.save(folder / f"{compression}.h5", {"scan": cube}, compression=compression)
    py4DSTEM.save(folder / "everything.h5", {"scan": cube, **results})
    py4DSTEM.save(folder / "results.h5", results)
    for suffix in (".npy", ".hspy", ".zspy", ".zarr"):
        with suppress(DependencyMissing):
            py4DSTEM.save(folder / f"scan{suffix}", cube)
    for suffix in (".tif", ".npy"):
        py4DSTEM.save(folder / f"image{suffix}", image)


def write_cameras(folder: Path) -> None:
    """Files of cameras, made by the writers of our tests where those are there."""
    try:
        import synthetic
        import synthetic_dm
        import synthetic_emd
    except ImportError:
        return
    rng = np.random.default_rng(1)
    small = rng.integers(0, 60, (6, 64, 64))
    for kind in ("U08", "U16", "U32", "U64"):
        synthetic.write_mib(folder / f"{kind}.mib", small, kind)
    for depth, most in ((1, 2), (6, 64), (12, 4096), (24, 1 << 20)):
        frames = rng.integers(0, most, (4, 64, 64))
        synthetic.write_mib(folder / f"R{depth}.mib", frames, "R64", depth=depth)
    raw = folder / "empad" / "scan_x3_y2.raw"
    raw.parent.mkdir()
    synthetic.write_empad(raw, rng.normal(size=(6, 128, 128)))
    synthetic.write_empad_xml(raw, (2, 3))
    for version in (4, 5):
        synthetic.write_seq(folder / f"v{version}.seq", small.astype("u2"), version=version)
    for version in (3, 4):
        axes = [(1.0, 0.0, "nm")] * 2 + [(0.1, 0.0, "1/nm")] * 2
        scan = small.astype("u2").reshape(2, 3, 64, 64)
        tree = synthetic_dm.tree(synthetic_dm.image(scan, axes))
        synthetic_dm.write_dm(folder / f"scan.dm{version}", tree, version)
    for name in ("emd1", "v013", "v012", "v07", "v05", "berkeley", "layers"):
        getattr(synthetic_emd, name)(folder / f"{name}.h5")


def format_of(path: Path) -> str:
    """The format that reads the whole file."""
    try:
        return detect(Source.of(path))[0].name
    except Py4DSTEMError:
        return "none"


# ---- survey --------------------------------------------------------------------------------------
def surveyed(path: Path, options: argparse.Namespace, places: bool) -> Iterator[DamageReport]:
    """Damaged versions, and the whole file in wrong places."""
    keep = options.keep / re.sub(r"\W+", "_", path.name) if options.keep else None
    if options.count or options.cuts:
        at = cuts(path, options.cuts) if options.cuts else ()
        yield survey_damage(path, options.count, options.seed, cuts=at, keep=keep, unreadable=True)
    if places:
        yield survey_places(path)


def table(outcomes: Mapping[str, Counter[str]], files: Counter[str]) -> str:
    """Rows of formats, columns of outcomes, sums below."""
    total: Counter[str] = sum(outcomes.values(), Counter())
    rows = [[name, files[name], c.total(), *[c[k] for k in COLUMNS]]
            for name, c in sorted(outcomes.items())]  # fmt: skip
    rows.append(["**all**", files.total(), total.total(), *[total[k] for k in COLUMNS]])
    lines = [["format", "files", "cases", *COLUMNS], ["---"] * (3 + len(COLUMNS)), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--own", action="store_true", help="also files that we write")
    parser.add_argument("--count", type=int, default=45, help="random damages per file")
    parser.add_argument("--cuts", type=int, default=48, help="cuts at structures per file")
    parser.add_argument(
        "--places",
        type=int,
        default=3,
        help="files per format in wrong places: extension, folder, FIFO …",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="only files whose path fits this expression")
    parser.add_argument("--keep", type=Path, help="folder for the versions that failed")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    files: Counter[str] = Counter()
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        own = Path(scratch)
        if options.own:
            write_own(own)
            write_cameras(own)
        everything = [p for folder in (*options.folders, own) for p in seeds(folder)]
        for path in everything:
            if options.only and not re.search(options.only, str(path)):
                continue
            name = format_of(path)
            files[name] += 1
            for report in surveyed(path, options, files[name] <= options.places):
                outcomes[name] += report.outcomes
                failures += report.failures
                print(*report.failures, sep="\n", end="\n" * bool(report.failures), file=sys.stderr)
            print(f"{path.name} ({name})", file=sys.stderr, flush=True)
    print(table(outcomes, files))
    seconds = time.perf_counter() - start
    print(f"\npy4DSTEM {py4DSTEM.__version__}, {datetime.now(UTC):%Y-%m-%d}, {seconds:.0f} s")
    if options.json:
        found = {"outcomes": outcomes, "files": files, "failures": failures, "seconds": seconds}
        options.json.write_text(json.dumps(found, indent=1))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
