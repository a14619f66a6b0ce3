"""Disks in patterns: where their rim is, how soft, how round, and how surely."""

from py4DSTEM.process.rim.fit import RimFit, fit_rim
from py4DSTEM.process.rim.model import rim_radius, soft_disk

__all__ = ["RimFit", "fit_rim", "rim_radius", "soft_disk"]
