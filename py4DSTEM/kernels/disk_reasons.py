"""What becomes of every maximum of a pattern, fast enough to be shown while a slider moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._disk_fit import DISK, fit_disk, fit_workspace
from .api import DISK_REJECTIONS, DiskPlan, Float
from .twins_disks import DISK as IS_DISK
from .twins_disks import Candidate, examine

__all__ = ["examine_disks"]


def examine_disks(pattern: NDArray[Any], plan: DiskPlan) -> list[Candidate]:
    """As `twins_disks.examine`, with compiled fits.

    Disks that are not fitted keep the place that three values along each axis tell: no verdict
    follows from a better one.
    """
    plain = plan._replace(subpixel=1) if plan.subpixel == 2 else plan
    return examine(pattern, plain, _compiled_fitter)


def _compiled_fitter(counts: Float, weights: Float, plan: DiskPlan) -> Callable[[Float], str]:
    image, weight = counts.astype(np.float32), weights.astype(np.float32)
    work = fit_workspace(plan)

    def fit(row: Float) -> str:
        x, y = float(row[0]), float(row[1])
        verdict = fit_disk(image, weight, x, y, plan, work, row)
        return IS_DISK if verdict == DISK else DISK_REJECTIONS[verdict]

    return fit
