"""Worker that measures pyFAI's CSR engine, with or without pixel splitting."""

from __future__ import annotations

import logging

import numpy as np
import polar

PIXEL_M, DISTANCE_M = 1e-4, 1000.0


def make(patterns: polar.Patterns, split: str) -> dict:
    logging.disable(logging.WARNING)
    from pyFAI.detectors import Detector
    from pyFAI.integrator.azimuthal import AzimuthalIntegrator

    x, y = patterns.origin
    integrator = AzimuthalIntegrator(
        dist=DISTANCE_M, poni1=(x + 0.5) * PIXEL_M, poni2=(y + 0.5) * PIXEL_M,
        detector=Detector(PIXEL_M, PIXEL_M, max_shape=(256, 256)), wavelength=1e-12,
    )  # fmt: skip
    options = {
        "unit": "r_mm", "radial_range": (0.0, polar.RINGS * PIXEL_M * 1e3),
        "method": (split, "csr", "cython"), "correctSolidAngle": False,
    }  # fmt: skip

    def radial() -> dict:
        runs = [integrator.integrate1d(d, polar.RINGS, **options).intensity for d in patterns.data]
        return {"radial": np.stack(runs)}

    def variance() -> dict:
        more = {**options, "error_model": "azimuthal"}
        runs = [integrator.integrate1d(d, polar.RINGS, **more) for d in patterns.data]
        return {
            "radial": np.stack([run.intensity for run in runs]),
            "variance": np.stack([run.std**2 for run in runs]),
        }

    def image() -> dict:
        # Its angle goes from columns to rows: turned round, and begun elsewhere.
        runs = [
            integrator.integrate2d(
                d, polar.RINGS, polar.ANGLES, azimuth_range=(-180, 180), **options
            ).intensity
            for d in patterns.data
        ]
        turned = np.stack(runs).transpose(0, 2, 1)
        return {"polar": np.roll(turned, polar.ANGLES // 4, axis=2)[:, :, ::-1]}

    return {"radial": radial, "variance": variance, "polar": image}


polar.serve(make, ("pyFAI", "numpy"))
