"""Worker that measures the floor: one real FFT, a product and the inverse per pattern, in cache.

One compiled loop over single precision patterns; the same few kilobytes are transformed again and
again, nothing is read, searched or fitted. Runs in any interpreter with numba and rocket-fft.
"""

from __future__ import annotations

import numpy as np
from bragg import Patterns, serve_detector


def make(patterns: Patterns, options):
    """The compiled loop."""
    import numba
    import rocket_fft  # noqa: F401  makes scipy.fft known to numba
    import scipy.fft

    @numba.njit(nogil=True)
    def transforms(pattern, template, n):
        total = np.float32(0)
        for _ in range(n):
            spectrum = scipy.fft.rfft2(pattern)
            spectrum *= template
            total += scipy.fft.irfft2(spectrum)[0, 0]
        return total

    size = patterns.size
    pattern = patterns.data[0].astype(np.float32)
    template = np.ones((size, size // 2 + 1), np.complex64)
    return lambda: transforms(pattern, template, len(patterns.data)), lambda total: []


if __name__ == "__main__":
    serve_detector(__doc__, make, ("numpy", "numba", "rocket-fft", "scipy"), ("fft",))
