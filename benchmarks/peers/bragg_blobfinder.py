"""Worker that measures LiberTEM-blobfinder: disks refined around starting places.

The package finds the starting places in the sum of all patterns and refines each of them in every
pattern; both are inside the clock. It does not decide what a disk is, so that its recall and
precision are those of the right number of starting places, which it is told.
"""

from __future__ import annotations

from bragg import UPSAMPLING, Patterns, serve_detector


def make(patterns: Patterns, options):
    """Data set in memory, template, and the two steps."""
    import libertem.api as lt
    import numpy as np
    from libertem.executor.inline import InlineJobExecutor
    from libertem_blobfinder.common.correlation import get_peaks
    from libertem_blobfinder.common.patterns import BackgroundSubtraction
    from libertem_blobfinder.udf.correlation import FastCorrelationUDF, FullFrameCorrelationUDF

    refine = {"fast": FastCorrelationUDF, "full": FullFrameCorrelationUDF}
    kind, _, up = options.method.partition("-")
    factor = UPSAMPLING if up else False
    template = BackgroundSubtraction(radius=patterns.radius, search=1.6 * patterns.radius)
    context = lt.Context(executor=InlineJobExecutor(inline_threads=options.workers))
    data = context.load("memory", data=patterns.cube, sig_dims=2)
    disks = patterns.positions.shape[1]

    def detect():
        total = patterns.cube.sum((0, 1)).astype(np.float32)
        places = get_peaks(np.log(total + 1), template, disks)
        udf = refine[kind](peaks=places, match_pattern=template, upsample=factor)
        return context.run_udf(dataset=data, udf=udf)["refineds"].data

    return detect, lambda refined: list(refined.reshape(-1, disks, 2))


if __name__ == "__main__":
    packages = ("libertem-blobfinder", "libertem", "numpy", "numba")
    serve_detector(__doc__, make, packages, ("full", "fast", "full-up", "fast-up"))
