"""How far the images of the bright-field pixels are displaced in a defocused scan."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import Mask
from py4DSTEM.errors import ParameterError, SolveError
from py4DSTEM.process.beam import find_beam
from py4DSTEM.process.calibrate.curl import scan_steps
from py4DSTEM.process.virtual import virtual_images
from py4DSTEM.stream.options import RunOptions

__all__ = ["CellImages", "Parallax", "measure_parallax", "start_matrix", "transformed"]

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]
_ACROSS = 9  # groups of pixels along the diameter of the bright disk
_NEIGHBOURS = ((1, 0), (0, 1), (1, 1), (1, -1))
_ROUNDS = 8
_LARGEST_MISFIT = 0.5
_LEAST_AGREEMENT = 4.0  # standard deviations of what images of noise agree by
_LARGEST_STEP = 1.0  # px of the scan, of one round
_SWAP = np.array([[0.0, 1.0], [1.0, 0.0]])
_TURN = np.array([[0.0, -1.0], [1.0, 0.0]])


@dataclass(frozen=True, eq=False)
class Parallax:
    """Displacements of virtual images, linear in the place of their pixels.

    Parameters
    ----------
    matrix : (2, 2) float64
        M: the image of pixel k (from the beam's centre, px, ellipse undone) is displaced by
        ``M k`` scan steps.
    covariance : (4, 4) float64
        Of ``M.ravel()``.
    k_px, shifts : (n, 2) float64
        Place and displacement of each group of pixels.
    calibration : Calibration
    """

    matrix: Float
    covariance: Float
    k_px: Float
    shifts: Float
    calibration: Calibration

    @property
    def mirrored(self) -> bool:
        """Whether k and displacements have opposite handedness."""
        return bool(np.linalg.det(self.matrix) < 0)

    def rotation(self, flip: bool) -> tuple[float, float]:
        """Angle that turns (flipped) k into displacements, and its sigma, in rad."""
        c, s = self._components(flip)
        length = c @ self.matrix.ravel(), s @ self.matrix.ravel()
        gradient = (length[0] * s - length[1] * c) / (length[0] ** 2 + length[1] ** 2)
        sigma = math.sqrt(float(gradient @ self.covariance @ gradient))
        return math.atan2(length[1], length[0]), sigma

    def scale(self, flip: bool) -> tuple[float, float]:
        """Scan steps per pixel, and sigma."""
        c, s = self._components(flip)
        length = np.array([c @ self.matrix.ravel(), s @ self.matrix.ravel()])
        size = float(np.hypot(*length))
        gradient = (length[0] * c + length[1] * s) / size
        return size, math.sqrt(float(gradient @ self.covariance @ gradient))

    def defocus_A(self, flip: bool) -> tuple[float, float]:
        """Size of the defocus and its sigma in Å; NaN where sizes or energy are not calibrated."""
        calibration = self.calibration
        if calibration.energy_eV is None or not all(
            axis.calibrated for axis in (*calibration.R, *calibration.Q)
        ):
            return math.nan, math.nan
        step = math.sqrt(math.prod(axis.step for axis in calibration.R))
        per_px = math.sqrt(math.prod(calibration.Q_steps("A^-1"))) * calibration.wavelength_A
        size, sigma = self.scale(flip)
        return size * step / per_px, sigma * step / per_px

    def misfit(self, flip: bool) -> float:
        """Rms of the displacements less those of the best rotation, as a share of their rms."""
        return float(self.curve(np.array([self.rotation(flip)[0]]))["misfit_rms"][int(flip), 0])

    def curve(self, angles: Float) -> dict[str, Float]:
        """Misfit against the angle, for both flips, (2, n), the best scale for each."""
        misfit = np.empty((2, len(angles)))
        whole = (self.shifts**2).sum()
        for flip in (False, True):
            k = self.k_px[:, ::-1] if flip else self.k_px
            along, across = (k * self.shifts).sum(), (k @ _TURN.T * self.shifts).sum()
            seen = (np.cos(angles) * along + np.sin(angles) * across) ** 2 / (k**2).sum()
            misfit[int(flip)] = np.sqrt(np.clip(1 - seen / whole, 0, 1))
        return {"angles_rad": angles, "misfit_rms": misfit}

    @staticmethod
    def _components(flip: bool) -> tuple[Float, Float]:
        """Weights of M.ravel() that give size times cosine and sine of the rotation."""
        swap = _SWAP if flip else np.eye(2)
        return swap.ravel() / 2, (_TURN @ swap).ravel() / 2


@dataclass(frozen=True, eq=False)
class CellImages:
    """Virtual images in Fourier space, with the cell of the bright disk that each belongs to."""

    waves: Complex
    cells: NDArray[np.int64]
    k_px: Float
    q: Float

    @property
    def spacing(self) -> Float:
        """Scan steps along x and y in units of their geometric mean."""
        return np.array(
            [1 / (len(axis) * abs(axis[1])) for axis in (self.q[0][:, 0], self.q[1][0])]
        )


def measure_parallax(cube: Cube, *, options: RunOptions | None = None) -> Parallax:
    """Displacement of the images of bright-field pixels as a linear function of their place.

    Raises
    ------
    ParameterError
        The bright disk is smaller than 3 pixels in radius, or parts of it have no counts.
    SolveError
        The displacements are not those of a defocus.

    Notes
    -----
    Pixels are gathered in a square grid of cells.  Cross-spectra of all pairs of cells with the
    same distance are summed, whose maximum starts the matrix; each image is then registered to the
    mean of the others, moved by the matrix so far.
    """
    images = _images(cube, options)
    matrix = start_matrix(images)
    for _ in range(_ROUNDS):
        shifts = _registered(images, matrix)
        matrix, covariance, shifts = _linear_fit(images, shifts)
    found = Parallax(matrix, covariance, images.k_px, shifts, cube.calibration)
    agreement = _agreement(images, matrix)
    if agreement < _LEAST_AGREEMENT:
        raise SolveError(
            "the images of the bright-field pixels are not displaced copies of one another: moved "
            f"back they agree by {agreement:.1f} standard deviations of noise (at least "
            f"{_LEAST_AGREEMENT:g}); use more counts or a larger scan"
        )
    if not found.misfit(found.mirrored) < _LARGEST_MISFIT:
        raise SolveError(
            "the images of the bright-field pixels are not displaced as a defocus does it (misfit "
            f"{found.misfit(found.mirrored):.2f} of the displacements, at most {_LARGEST_MISFIT}): "
            "use a larger defocus or more counts, for a crystal displacements below its period, "
            'or method="curl"'
        )
    return found


def _images(cube: Cube, options: RunOptions | None) -> CellImages:
    beam = find_beam(cube)
    if beam.radius_px < 3:
        raise ParameterError(
            f"the bright disk has a radius of {beam.radius_px:.1f} px: parallax needs 3 or more"
        )
    i, j = np.indices(cube.Q_shape, dtype=np.float64)
    offset = np.stack([i - beam.center[0], j - beam.center[1]], axis=-1)
    inside = np.hypot(offset[..., 0], offset[..., 1]) < beam.radius_px - 1
    edge = max(2 * beam.radius_px / _ACROSS, 1.0)
    cell = np.rint(offset / edge).astype(np.int64)
    cells, member = np.unique(cell[inside], axis=0, return_inverse=True)
    label = np.full(cube.Q_shape, -1)
    label[inside] = member.ravel()
    size = np.bincount(member.ravel())
    kept = np.nonzero(size >= 0.5 * edge**2)[0]
    masks = {str(n): Mask(label == n) for n in kept}
    stack = virtual_images(cube, masks, options=options).data
    k = np.stack([offset[label == n].mean(axis=0) for n in kept])
    if cube.calibration.ellipse is not None:
        k = k @ cube.calibration.ellipse.correction().T
    return transformed(stack, cells[kept], k, scan_steps(cube.calibration))


def transformed(
    stack: Float, cells: NDArray[np.int64], k_px: Float, steps: tuple[float, float]
) -> CellImages:
    stack = np.nan_to_num(stack)
    counts = stack.mean(axis=(1, 2))
    if (counts <= 0).any():
        raise ParameterError("some of the bright disk has no counts: is there a beam stop?")
    shape = stack.shape[1:]
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in shape))
    waves = np.fft.fft2((stack / counts[:, None, None] - 1) * window)
    waves[:, 0, 0] = 0.0
    unit = math.sqrt(math.prod(steps))
    axes = (np.fft.fftfreq(n, step / unit) for n, step in zip(shape, steps, strict=True))
    q = np.stack(np.meshgrid(*axes, indexing="ij"))
    return CellImages(waves, cells, k_px, q)


def start_matrix(images: CellImages) -> Float:
    """The matrix from neighbouring cells, whose images are displaced by less than a cell's worth.

    All pairs with the same difference of cells are displaced alike: their cross-spectra add up.
    """
    place = {tuple(cell): n for n, cell in enumerate(images.cells.tolist())}
    steps, shifts = [], []
    for dx, dy in _NEIGHBOURS:
        pairs = [
            (n, place[i + dx, j + dy]) for (i, j), n in place.items() if (i + dx, j + dy) in place
        ]
        if not pairs:
            raise ParameterError("the bright disk has too few usable pixels for parallax")
        first, second = np.array(pairs).T
        spectrum = (images.waves[first].conj() * images.waves[second]).sum(axis=0)
        steps.append((images.k_px[second] - images.k_px[first]).mean(axis=0))
        shifts.append(_peak(np.fft.ifft2(spectrum).real, images.spacing))
    matrix: Float = np.linalg.lstsq(np.array(steps), np.array(shifts), rcond=None)[0].T
    return matrix


def _peak(correlation: Float, spacing: Float) -> Float:
    """Place of the maximum within a quarter of the scan of zero, to subpixel."""
    shape = np.array(correlation.shape)
    centred = np.fft.fftshift(correlation)
    middle, reach = shape // 2, np.maximum(shape // 4, 1)
    low = middle - reach
    near = centred[low[0] : low[0] + 2 * reach[0] + 1, low[1] : low[1] + 2 * reach[1] + 1]
    peak = np.array(np.unravel_index(int(near.argmax()), near.shape)) + low
    fraction = np.zeros(2)
    for axis in (0, 1):
        line = np.take(centred[:, peak[1]] if axis == 0 else centred[peak[0]],
                       peak[axis] + np.arange(-1, 2), mode="wrap")  # fmt: skip
        bend = line[0] - 2 * line[1] + line[2]
        fraction[axis] = 0.5 * (line[0] - line[2]) / bend if bend < 0 else 0.0
    place: Float = (peak - middle + fraction) * spacing
    return place


def _agreement(images: CellImages, matrix: Float) -> float:
    """Power of the sum of the images, moved back, over that of noise, in standard deviations.

    ``(Σ|Σ_n w_n|² / ΣΣ_n|w_n|² − 1) √N``: images without a common scene add up as their powers.
    """
    predicted = images.k_px @ matrix.T
    moved = images.waves * np.exp(2j * np.pi * np.einsum("nc,cxy->nxy", predicted, images.q))
    together = float((np.abs(moved.sum(axis=0)) ** 2).sum())
    apart = float((np.abs(moved) ** 2).sum())
    return (together / apart - 1) * math.sqrt(moved[0].size) if apart > 0 else 0.0


def _registered(images: CellImages, matrix: Float) -> Float:
    """Displacement of each image (n, 2): what the matrix says, and one step of least squares.

    The step compares each image with the mean of the others, all moved back by the matrix.
    """
    predicted = images.k_px @ matrix.T
    phase = 2j * np.pi * np.einsum("nc,cxy->nxy", predicted, images.q)
    moved = images.waves * np.exp(phase)
    total, count = moved.sum(axis=0), len(moved)
    spread = np.maximum((np.abs(moved) ** 2).sum(axis=0) - np.abs(total) ** 2 / count, 0)
    noise = spread / (count * (count - 1))
    mean_power = np.abs(total / count) ** 2
    weight = np.clip(
        1 - np.divide(noise, mean_power, out=np.ones_like(noise), where=mean_power > 0), 0, 1
    )
    correction = np.empty((count, 2))
    for n, wave in enumerate(moved):
        others = (total - wave) / (count - 1)
        slope = -2j * np.pi * images.q * others
        normal = np.einsum("axy,bxy,xy->ab", slope.conj(), slope, weight).real
        right = np.einsum("axy,xy,xy->a", slope.conj(), wave - others, weight).real
        correction[n] = np.linalg.lstsq(normal, right, rcond=None)[0]
    moves = np.clip(correction, -_LARGEST_STEP, _LARGEST_STEP)
    result: Float = predicted + moves
    return result


def _linear_fit(images: CellImages, shifts: Float) -> tuple[Float, Float, Float]:
    """Matrix, covariance from the scatter, and the displacements less their common offset."""
    design = np.column_stack([images.k_px, np.ones(len(shifts))])
    solution: Float = np.asarray(np.linalg.lstsq(design, shifts, rcond=None)[0], np.float64)
    rest = shifts - design @ solution
    variance = float((rest**2).sum()) / (2 * (len(shifts) - 3))
    one = variance * np.linalg.inv(design.T @ design)[:2, :2]
    covariance: Float = np.asarray(np.kron(np.eye(2), one), np.float64)
    return solution[:2].T, covariance, shifts - solution[2]
