"""Strain from a raw scan with known truth: this package against its peers.

    python strain_truth.py --scan FOLDER --ours PYTHON [--py4dstem014 PYTHON] [--quantem PYTHON]
                           [--libertem PYTHON] [--counts 100] [--json FILE] [--page FILE]

FOLDER holds a simulated nanobeam scan and its truth, see ``Scan`` in ``peers/strain.py``. From the
scan in memory to strain: template from the vacuum probe, disks, origin, ellipse, lattices, strain
against the known unstrained lattice with the true pixel size. All in one thread.

Same for all: the lowest correlation that is a disk (a quarter of ``--counts`` spread over a disk;
ours keeps its own default), and disks at least two radii apart. Ellipse: ours and py4DSTEM 0.14
measure it with their own tools in the gold rings of the scan; blobfinder has none and quantem's
does not work on rings, they are given the true one. blobfinder is also told the approximate
lattice, and its strain is a line of numpy.

Columns: recall of the disks that lie wholly on the detector with at least ``--counts`` counts above
the true background; share of what was found that lies on any lattice point; root mean square error
of each component after the median over the unstrained region was subtracted from measurement and
truth; mean error with nothing subtracted (``abs``, the largest of e_xx, e_yy, e_xy and theta);
share of the errors, less that median, inside one and two of the package's own sigmas (mean of the
components); root mean square error of the origin; ratio of the ellipse; seconds.

``--page`` writes the tables as a Markdown section.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import common
from workers import Lane, Turns, Variant, WorkerFailed, add_interpreters, interpreters, start_lane

PEERS = ("ours", "py4dstem014", "libertem", "quantem")
COMPONENTS = ("e_xx", "e_yy", "e_xy", "theta")
HEADINGS = (
    "package",
    "recall",
    "on lattice",
    "disks / pattern",
    *[f"rms {name} 1e-3" for name in COMPONENTS],
    "abs 1e-3",
    "inside 1, 2 sigma",
    "origin px",
    "ellipse",
    "mapped",
    "s",
)


def method(name: str, peer: str, script: str, how: str) -> Variant:
    """A variant that is one method of one package."""
    return Variant(name, peer, f"strain_{script}.py", ("--method", how), slow=True)


VARIANTS = (
    method("ours, fit", "ours", "ours", "fit"),
    method("ours, dft", "ours", "ours", "dft"),
    method("ours, parabola", "ours", "ours", "parabola"),
    method("py4DSTEM 0.14, multicorr 16", "py4dstem014", "py4dstem014", "multicorr"),
    method(
        "py4DSTEM 0.14, multicorr 16, sigma_cc 2", "py4dstem014", "py4dstem014", "multicorr-smooth"
    ),
    method("py4DSTEM 0.14, poly", "py4dstem014", "py4dstem014", "poly"),
    method("blobfinder, fast + numpy", "libertem", "blobfinder", "fast"),
    method("blobfinder, full frame + numpy", "libertem", "blobfinder", "fullframe"),
    method("blobfinder, fast upsampled 16 + numpy", "libertem", "blobfinder", "fast-up"),
    method("quantem, upsample 16", "quantem", "quantem", "upsample"),
    method("quantem, upsample 16, background auto", "quantem", "quantem", "upsample-highpass"),
    method("quantem, parabolic", "quantem", "quantem", "parabolic"),
)


def measure(
    options: argparse.Namespace, pythons: dict[str, str], result: common.Result
) -> list[Lane]:
    """All lanes, one after the other in turns; what fails is noted."""
    chosen = [v for v in VARIANTS if v.peer in pythons]
    chosen = [v for v in chosen if not options.only or any(w in v.name for w in options.only)]
    shared = ["--scan", str(options.scan), "--counts", str(options.counts)]
    lanes = []
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for variant in chosen:
            try:
                lane = start_lane(variant, pythons[variant.peer], shared, scratch)
            except WorkerFailed as error:
                result.note(f"{variant.name}: not measured ({error})")
                continue
            stack.enter_context(lane.worker)
            result.versions[variant.peer] = lane.worker.hello["versions"]
            lanes.append(lane)
        Turns(options.rounds, options.rounds, options.pause).run(lanes, "scan")
    for lane in lanes:
        if lane.failed:
            result.note(f"{lane.variant.name}: failed ({lane.failed})")
    return [lane for lane in lanes if lane.samples.seconds]


def coverage(found: dict) -> str:
    """Shares of the errors inside one and two sigma, mean of the components."""
    if "within_1_e_xx" not in found:
        return "no sigmas"
    shares = [sum(found[f"within_{n}_{name}"] for name in COMPONENTS) / 4 for n in (1, 2)]
    return ", ".join(f"{100 * share:.0f} %" for share in shares)


def row(lane: Lane) -> list[object]:
    """One line of the table."""
    found = lane.checks
    shares = [f"{found[name]:.4f}" for name in ("recall", "precision")]
    errors = [1e3 * found[f"rms_{name}"] for name in COMPONENTS]
    absolute = max((1e3 * found[f"mean_{name}"] for name in COMPONENTS), key=abs)
    ratio = found.get("ellipse_ratio")
    return [
        lane.variant.name,
        *shares,
        found["found_per_pattern"],
        *errors,
        absolute,
        coverage(found),
        found.get("rms_origin_px", math.nan),
        f"{ratio:.4f}" if ratio else "given",
        f"{found['mapped']:.4f}",
        lane.median,
    ]


def page(lanes: Sequence[Lane], options: argparse.Namespace, result: common.Result) -> str:
    """The section for people: what was done, and the table."""
    truth = json.loads((options.scan / "truth.json").read_text())
    versions = {
        name: version
        for found in result.versions.values()
        for name, version in found.items()
        if name not in ("python", "numpy", "scipy", "numba", "rocket-fft")
    }
    used = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"""## Strain from a raw scan: peers on the same data

{truth["material"]}: {truth["scan_shape"][0]} x {truth["scan_shape"][1]} positions, multislice
physics, {truth["counts_per_pattern"]:.0f} counts per pattern, disks of radius
{truth["disk_radius_px"]:.2f} px, ellipse {truth["ellipse_ratio_a_over_b"]}. Recall counts disks
with at least {options.counts:g} counts above background. Strain errors follow the subtraction of
the median over the unstrained region; `abs` is the largest mean error against the known lattice.
Ellipse: measured by the package in gold rings, or given as truth where it cannot. One thread.
Versions: {used}.

{common.table(HEADINGS, [row(lane) for lane in lanes])}
"""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scan", type=Path, required=True, help="folder with scan and truth")
    add_interpreters(parser, PEERS)
    parser.add_argument("--counts", type=float, default=100.0, help="of the weakest disk")
    parser.add_argument("--only", nargs="+", default=[], help="keep lanes that contain a word")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.3, help="seconds of rest before a call")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--page", type=Path, help="where to write the Markdown section")
    options = parser.parse_args()
    result = common.Result("strain from a raw scan")
    lanes = measure(options, interpreters(options, PEERS, result), result)
    result.cases["scan"] = {lane.variant.name: lane.figures() for lane in lanes}
    text = page(lanes, options, result)
    print("\n" + text)
    if options.page:
        options.page.write_text(text)
    result.write(options.json)


if __name__ == "__main__":
    main()
