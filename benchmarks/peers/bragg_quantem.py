"""Worker that measures quantem: BraggVectors.detect_disks on the processor.

``-sharp`` leaves out the smoothing of the correlation, which is what it does unless told.
"""

from __future__ import annotations

from bragg import EDGE_PX, SMOOTHING_PX, UPSAMPLING, Patterns, serve_detector


def make(patterns: Patterns, options):
    """The template from the probe, and the search."""
    import numpy as np
    import torch
    from quantem.core.datastructures import Dataset4dstem
    from quantem.diffraction import BraggVectors

    torch.set_num_threads(options.workers)
    subpixel, _, sharp = options.method.partition("-")
    center = (patterns.size // 2, patterns.size // 2)
    vectors = BraggVectors.from_dataset(Dataset4dstem.from_array(patterns.cube))
    vectors.make_template_from_probe(patterns.probe, center=center)

    def detect():
        return vectors.detect_disks(
            subpixel=subpixel,
            upsample_factor=UPSAMPLING,
            min_abs_intensity=patterns.minimum,
            min_spacing=patterns.minimum_spacing,
            edge_boundary=EDGE_PX,
            sigma_cc=None if sharp else SMOOTHING_PX,
            max_num_peaks=70,
            progressbar=False,
        )

    def points(peaks) -> list:
        flat = np.asarray(peaks.flatten())[:, :2]
        return np.split(flat, np.cumsum(np.asarray(peaks.row_counts()).ravel())[:-1])

    return detect, points


if __name__ == "__main__":
    methods = ("upsample", "parabolic", "upsample-sharp", "parabolic-sharp")
    packages = ("quantem", "torch", "numpy")
    serve_detector(__doc__, make, packages, methods)
