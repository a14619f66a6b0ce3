"""Over what region of the specimen the position of a disk averages strain.

    python edge_response.py

A focused, aberration-free probe stands at distances from a step of strain in a thin phase object.
The disk is fitted with its template (weights of counting noise) as by `find_bragg_disks`, with and
without a slope of intensity. The share of the step that is measured, over the distance, is close to
the integral of a Gaussian, whose standard deviation is printed in units of 1 / q_r, q_r the radius
of the disk in 1/Angstrom, for edges of different sharpness (standard deviation of the edge, pixels
included, over the radius). Last row: what the centre of mass of the disk would see, which is the
intensity of the probe itself.
"""

from __future__ import annotations

import math

import common
import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.optimize import curve_fit
from scipy.special import erf

SIZE, RADIUS = 512, 40.0
STRAIN_PX = 0.05
BACKGROUND = 0.05
SHARPNESS = (0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2)
DISTANCES = np.linspace(-4, 4, 33)
"""Of the step from the probe, in 1 / q_r."""


def blurred(image: np.ndarray, sharpness: float) -> np.ndarray:
    """The pattern with edges of that sharpness; the grid itself makes a little of it."""
    return gaussian_filter(image, math.sqrt((sharpness * RADIUS) ** 2 - 1 / 12), mode="wrap")


def width(distances: np.ndarray, response: np.ndarray) -> float:
    """Standard deviation of the Gaussian whose integral is most like the response."""
    step = lambda t, s, c: 0.5 * (1 - erf((t - c) / (s * math.sqrt(2))))  # noqa: E731
    return abs(curve_fit(step, distances, response, [0.5, 0.0])[0][0])


def responses(
    template: np.ndarray, moved: np.ndarray, changes: list[np.ndarray], slope: bool, q: np.ndarray
) -> np.ndarray:
    """Displacement that the fit finds for each change of the pattern."""
    near = np.hypot(q[:, None], q) < 1.6 * RADIUS
    columns = [moved, template, near.astype(float)]
    if slope:
        columns.append(template * q[:, None] / RADIUS)
    design = np.stack([c[near] for c in columns], axis=1)
    weights = 1 / (template[near] / template.max() + BACKGROUND)
    normal = design.T @ (design * weights[:, None])
    return np.array([np.linalg.solve(normal, design.T @ (weights * c[near]))[0] for c in changes])


def main() -> None:
    """Print the table."""
    q = np.fft.fftfreq(SIZE) * SIZE
    probe = np.fft.ifft2(np.clip(RADIUS + 0.5 - np.hypot(q[:, None], q), 0, 1))
    x, unit = q[:, None], SIZE / RADIUS  # the same grid serves real space

    def pattern(phase: np.ndarray) -> np.ndarray:
        return np.abs(np.fft.fft2(probe * np.exp(2j * np.pi * phase / SIZE))) ** 2

    plain = pattern(0 * x)
    moved = (pattern(STRAIN_PX * x) - pattern(-STRAIN_PX * x)) / (2 * STRAIN_PX)
    steps = [
        (pattern(STRAIN_PX * np.maximum(x - place * unit, 0)) - plain) / STRAIN_PX
        for place in DISTANCES
    ]
    rows = []
    for sharpness in SHARPNESS:
        seen = [blurred(image, sharpness) for image in (plain, moved, *steps)]
        widths = [
            width(DISTANCES, responses(seen[0], seen[1], seen[2:], slope, q))
            for slope in (False, True)
        ]
        rows.append([f"{sharpness:.2f}", *(f"{w:.2f}" for w in widths)])
    intensity = np.fft.fftshift((np.abs(probe) ** 2).sum(axis=1))
    places, total = np.fft.fftshift(q) / unit, 1 - np.cumsum(intensity) / intensity.sum()
    rows.append(["centre of mass", f"{width(places, total):.2f}", ""])
    print(common.table(("edge / radius", "even disk", "slope fitted too"), rows))


if __name__ == "__main__":
    main()
