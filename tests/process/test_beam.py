"""Reasons to doubt the beam that a first look has found."""

from __future__ import annotations

import numpy as np
import pytest

from py4DSTEM import Annulus, Calibration, DataCube, Disk, Rectangle, find_beam, simulate
from py4DSTEM.process.beam import beam_doubts, disk_of

SHAPE = (60, 72)
MIDDLE = (28.0, 37.0)


def shape(detector: object) -> np.ndarray:
    return detector.weights(SHAPE, Calibration())  # type: ignore[attr-defined]


DISK = shape(Disk(6.0, center=MIDDLE))
SECOND = shape(Disk(6.0, center=(28, 57)))
SPOT = np.hypot(*(np.indices(SHAPE) - np.reshape(MIDDLE, (2, 1, 1))))
RIGHT = {
    "a disk": 100 * DISK,
    "weaker disks": 100 * DISK + 50 * SECOND,
    "a hot pixel": 100 * DISK + 5000 * (np.indices(SHAPE) == np.reshape((5, 60), (2, 1, 1))).all(0),
    "background": 100 * DISK + 30,
    "a bright small spot": 100 * DISK + 90 * shape(Disk(1.6, center=(10, 10))),
    "no numbers beside it": np.where(np.indices(SHAPE)[0] < 8, np.nan, 100 * DISK),
}
WRONG = {
    "another spot, at (28, 57) px": 100 * DISK + 85 * SECOND,
    "the edge of the detector cuts it": 100 * shape(Disk(9.0, center=(2, 37))),
    "px from the middle": 100 * shape(Disk(4.0, center=(12, 14))),
    "only a few pixels are bright": 100.0 * (SPOT < 1.2),
    "not round": 100 * shape(Rectangle(8, 24, center=MIDDLE)),
    "no filled disk": 100 * shape(Annulus(9, 13, center=MIDDLE)),
    "nothing is twice as bright": 30 * DISK + 40,
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_beam_is_not_doubted(name: str) -> None:
    pattern = np.random.default_rng(2).poisson(np.nan_to_num(RIGHT[name])).astype(float)
    assert beam_doubts(disk_of(np.where(np.isnan(RIGHT[name]), np.nan, pattern))) == ()


@pytest.mark.parametrize("reason", WRONG)
def test_what_speaks_against_a_beam_is_said(reason: str) -> None:
    assert any(reason in doubt for doubt in beam_doubts(disk_of(WRONG[reason])))


@pytest.mark.parametrize("seed", [0, 1])
def test_scans_of_crystals_are_not_doubted(seed: int) -> None:
    scan = simulate.strained_lattice((4, 5), (96, 88), dose=20_000, seed=seed)
    assert beam_doubts(find_beam(scan.cube)) == ()


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (3, 3)])
def test_detectors_of_a_few_pixels(size: tuple[int, int]) -> None:
    beam = find_beam(DataCube(np.ones((2, 3, *size))))
    assert all(isinstance(doubt, str) for doubt in beam_doubts(beam))
