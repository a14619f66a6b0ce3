"""Worker that measures LiberTEM-blobfinder: lattices from peak lists and from a raw scan.

The package fits a lattice per pattern (Matcher.fastmatch) and stops there; strain is a line of
numpy, within the clock. From a scan it is told the approximate lattice, as its users do, and the
true ellipse, for which it has no tool. The disks that its fits used count as found.
"""

from __future__ import annotations

import numpy as np
from strain import Found, PeakLists, Scan, infinitesimal, serve_strain


def matcher():
    """Lattice fit with a tolerance of 3 px (its default)."""
    from libertem_blobfinder.common.gridmatching import Matcher

    return Matcher(tolerance=3, min_weight=0.1, min_match=3)


def from_lists(lists: PeakLists):
    """Fits of all positions and strain are timed; the start is the median lattice, rounded."""
    fit = matcher()
    start = np.rint(np.median(lists.vectors, axis=(0, 1)))

    def run() -> Found:
        vectors = np.empty((*lists.shape, 2, 2))
        for at in np.ndindex(*lists.shape):
            match = fit.fastmatch(
                centers=lists.positions[at],
                refineds=lists.positions[at],
                peak_elevations=lists.intensities[at],
                zero=lists.origin,
                a=start[0],
                b=start[1],
            )
            vectors[at] = match.a, match.b
        return Found(infinitesimal(vectors, np.nanmedian(vectors, axis=(0, 1))))

    return run


def from_scan(scan: Scan, method: str):
    """Refinement, lattices, ellipse and strain are timed."""
    import libertem.api as lt
    from libertem.executor.inline import InlineJobExecutor
    from libertem_blobfinder.common.patterns import BackgroundSubtraction
    from libertem_blobfinder.udf.refinement import run_refine

    context = lt.Context(executor=InlineJobExecutor(inline_threads=1))
    data = context.load("memory", data=scan.arrays["data"], sig_dims=2)
    template = BackgroundSubtraction(radius=scan.radius, search=1.6 * scan.radius)
    primitive = np.array([[1, 1], [1, -1]]) @ scan.reference  # the cell is centred
    start = np.rint(primitive @ scan.distortion.T)
    kind, _, up = method.partition("-")

    def run() -> Found:
        result, _ = run_refine(
            context,
            data,
            zero=np.rint(scan.origin.mean((0, 1))),
            a=start[0],
            b=start[1],
            match_pattern=template,
            matcher=matcher(),
            correlation=kind,
            upsample=16 if up else False,
        )
        stored = np.stack([result["a"].data, result["b"].data], axis=-2).astype(float)
        vectors = stored @ np.linalg.inv(scan.distortion).T
        return Found(
            infinitesimal(vectors, scan.known_lattice(primitive, 1.0)),
            points=lambda: used_points(result),
        )

    return run


def used_points(result) -> list[np.ndarray]:
    """The disks that each fit used."""
    refined, used = result["refineds"].data, result["selector"].data
    return [refined[at][used[at]] for at in np.ndindex(*used.shape[:2])]


if __name__ == "__main__":
    packages = ("libertem-blobfinder", "libertem", "numpy")
    serve_strain(__doc__, packages, from_lists, from_scan, ("fast", "fullframe", "fast-up"))
