"""The beam without a specimen."""

from __future__ import annotations

import numpy as np

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.simulate.disks import DiskShape, add_disks
from py4DSTEM.simulate.scan import Seed, counted, positive, shape_2d

__all__ = ["probe_slice", "vacuum_probe"]


def vacuum_probe(
    Q_shape: tuple[int, int] = (128, 128),
    radius_px: float = 6.0,
    *,
    center: tuple[float, float] | None = None,
    edge_px: float = 0.7,
    dose: float | None = 1e6,
    seed: Seed = 0,
) -> DiffractionSlice:
    """Pattern of the unscattered beam: one disk with a soft edge.

    Parameters
    ----------
    Q_shape : (int, int)
    radius_px, edge_px : float
        Where the intensity has fallen to one half, and the 1/e half-width of the edge's slope.
    center : (float, float), optional
        ``(qx, qy)`` in pixels; None: the middle of the detector.
    dose : float, optional
        Electrons in the pattern (Poisson counts, uint16); None: noise-free float32 of sum one.
    seed : int or Generator

    Returns
    -------
    DiffractionSlice
        Its calibration holds the true origin and radius.

    Notes
    -----
    ``I(r) ∝ ½ erfc((r − R) / w)``: a sharp aperture blurred by source size and detector.

    Examples
    --------
    >>> probe = vacuum_probe((64, 64), 6, dose=None)
    >>> round(float(probe.data.sum()), 3)
    1.0
    """
    shape = shape_2d("Q_shape", Q_shape)
    positive(radius_px=radius_px, edge_px=edge_px)
    middle = ((shape[0] - 1) / 2, (shape[1] - 1) / 2) if center is None else center
    known = Calibration(origin_px=np.array(middle, float), probe_radius_px=radius_px)
    return probe_slice(shape, known, edge_px=edge_px, dose=dose, rng=np.random.default_rng(seed))


def probe_slice(
    Q_shape: tuple[int, int],
    calibration: Calibration,
    *,
    edge_px: float,
    dose: float | None,
    rng: np.random.Generator,
) -> DiffractionSlice:
    """The unscattered disk at the mean origin of a calibration."""
    center = np.array(calibration.mean_origin_px).reshape(1, 1, 2)
    scale = 1.0 if dose is None else dose
    blank = np.zeros((1, *Q_shape))
    shape = DiskShape.of(calibration, edge_px)
    frame = add_disks(blank, center, np.full((1, 1), scale), shape)[0]
    units = "fraction" if dose is None else "counts"
    history = History().then("simulate-vacuum-probe", {"dose": dose, "edge_px": edge_px})
    fixed = calibration.replace(origin_px=center.ravel())
    return DiffractionSlice(counted(frame, dose, rng), fixed, history, "vacuum probe", units=units)
