"""Bloch waves: diffraction with multiple scattering, for any thickness."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from scipy.sparse.csgraph import connected_components

from py4DSTEM.core.crystal import Crystal
from py4DSTEM.core.history import History
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.crystal.ewald import Beam, candidates, chosen_orientation, incident_beams
from py4DSTEM.process.crystal.spots import SpotPattern, made_by

__all__ = ["BlochWaves", "Scattering", "bloch_waves", "thicknesses"]

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]
_CITES = ("10.1002/andp.19283921704",)
_MOST_BEAMS = 2500
_MOST_NUMBERS = 50_000_000
_COUPLED = 1e-9
_RIM = 0.9
_LIMITS_A = (0.08, 0.18)
_EDGE_A = 0.02
_PENG_A = 4.0
_LONGEST_A = 6.0
"""Half of what the scattering factors reach."""


@dataclass(frozen=True, eq=False, repr=False)
class BlochWaves:
    """Diffracted beams behind a crystal, at one or more thicknesses.

    Parameters
    ----------
    hkl : (n, 3) int64
        Beams, the direct one first.
    q_A : (n, 2) float64
        Places along the sample axes x and y, from the direct beam, Å⁻¹.
    s_A : (n,) float64
        Excitation errors; with precession of the middle of the cone.
    thickness_A : (m,) float64
    amplitudes : (a, m, n) complex128
        Of the exit wave, for every incident direction; zero for beams that were left out there.
    orientation : (3, 3) float64
        Columns are the sample axes in the crystal.
    crystal : Crystal
    energy_eV : float
    report : mapping
        Number of beams, and the share of intensity in beams at the rim of the choice of beams:
        where it is not small, take more.
    """

    hkl: NDArray[np.int64]
    q_A: Float
    s_A: Float
    thickness_A: Float
    amplitudes: Complex
    orientation: Float
    crystal: Crystal
    energy_eV: float
    history: History = field(default_factory=History)
    name: str = "Bloch waves"
    report: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = (len(self.thickness_A), len(self.hkl))
        if self.amplitudes.ndim != 3 or self.amplitudes.shape[1:] != expected:
            raise ShapeError(f"amplitudes are (a, {expected}), not {self.amplitudes.shape}")

    def __len__(self) -> int:
        return len(self.hkl)

    def __repr__(self) -> str:
        return (
            f"<BlochWaves {self.name!r}, {self.crystal.name}, {len(self)} beams, "
            f"{len(self.thickness_A)} thicknesses>"
        )

    @property
    def intensities(self) -> Float:
        """In units of the incident beam, averaged over its directions, (m, n)."""
        square = self.amplitudes.real**2 + self.amplitudes.imag**2
        return np.asarray(square.mean(axis=0))

    def intensity_of(self, hkl: Sequence[int]) -> Float:
        """Intensity of one beam at every thickness, (m,)."""
        where = np.flatnonzero((self.hkl == np.asarray(hkl)).all(axis=1))
        if not len(where):
            raise ParameterError(f"{list(hkl)} is none of the {len(self)} beams")
        return np.asarray(self.intensities[:, where[0]])

    def pattern(self, thickness_A: float | None = None, *, weakest: float = 1e-5) -> SpotPattern:
        """Spots at one thickness.

        Parameters
        ----------
        thickness_A : float, optional
            The nearest of those that were computed; None: the last.
        weakest : float
            Spots below this share of the strongest scattered one are left out.

        Returns
        -------
        SpotPattern
        """
        at = -1 if thickness_A is None else int(np.abs(self.thickness_A - thickness_A).argmin())
        intensity = self.intensities[at]
        limit = weakest * intensity[1:].max(initial=0.0)
        kept = np.flatnonzero((intensity >= limit) & (np.arange(len(self)) > 0))
        order = np.concatenate([[0], kept[np.argsort(-intensity[kept].round(12), kind="stable")]])
        return SpotPattern(
            self.hkl[order], self.q_A[order], self.s_A[order], intensity[order], self.orientation,
            self.crystal, self.energy_eV, "bloch", self.history,
            f"{self.crystal.name}, {self.thickness_A[at]:.4g} Å",
        )  # fmt: skip

    def text(self) -> str:
        """Beams, thicknesses and what is doubtful, one per line."""
        first, last = self.thickness_A[0], self.thickness_A[-1]
        return "\n".join([
            f"{self.name}: {self.crystal.name}, {len(self)} beams",
            f"thickness: {first:.4g} to {last:.4g} Å in {len(self.thickness_A)} steps",
            f"intensity in beams at the rim of the choice: {self.report.get('rim', math.nan):.1g}",
        ])  # fmt: skip


def bloch_waves(
    crystal: Crystal,
    orientation: ArrayLike | None = None,
    *,
    energy_eV: float,
    thickness_A: float | Sequence[float] | Float,
    zone_axis: Sequence[float] | None = None,
    x_hkl: Sequence[float] | None = None,
    k_max_A: float = 3.0,
    s_max_A: float | None = None,
    weak_s_max_A: float | None = None,
    absorption: float = 0.0,
    tilt_mrad: Sequence[float] = (0.0, 0.0),
    precession_mrad: float = 0.0,
    azimuths: int = 32,
) -> BlochWaves:
    """Dynamical amplitudes of all beams behind a flat crystal, at one or many thicknesses.

    Parameters
    ----------
    crystal : Crystal
        With Debye-Waller factors, where the atoms vibrate.
    orientation : (3, 3) float, optional
        Columns are the sample axes x, y, z in the crystal; z is the normal of the surface.
    energy_eV : float
    thickness_A : float or (m,) float
        Å; every additional one costs next to nothing.
    zone_axis : (3,) float, optional
        Instead of an orientation: the direction [u, v, w] against the beam.
    x_hkl : (3,) float, optional
        With a `zone_axis`: the reflection along x; None: the shortest of the zone.
    k_max_A : float
        Longest reflection in Å⁻¹.  Heavy atoms need 3: with 2, the direct beam behind 30 Å of gold
        [001] is wrong by 10 %.
    s_max_A : float, optional
        Beams with a larger excitation error are left out.  None: where, between 0.08 and 0.18 Å⁻¹,
        the fewest and weakest beams are, as it is bad to cut through a Laue layer.
    weak_s_max_A : float, optional
        Beams between `s_max_A` and this are taken by perturbation (Bethe potentials).
    absorption : float
        Imaginary part of the potential as a share of the real part; 0.1 is a usual guess.
    tilt_mrad : (float, float)
        Of the incident beam: how it travels along x and y.
    precession_mrad : float
        Half angle of a cone on which the beam turns, descanned.
    azimuths : int
        Directions on the cone.

    Returns
    -------
    BlochWaves

    Raises
    ------
    ParameterError
        More beams than a machine can take, negative thicknesses, scattering factors that end.

    Notes
    -----
    ``dφ/dt = 2πi A φ`` with ``A_gg = s_g``, ``A_gh = λ U_{g−h}/2 = 1/(2ξ_{g−h})``,
    ``U = γ F/(π V)``; its eigenvectors are the Bloch waves (Bethe, doi:10.1002/andp.19283921704).
    Weak beams w change ``A_gh`` by ``−A_gw A_wh/s_w``.  With absorption ``U → U (1 + i a)``, which
    is one number for what is a function of g.  The incident beam lies along −z but for `tilt_mrad`;
    nothing is reflected back.  Differences of beams above 4 Å⁻¹, where the table "peng" ends, have
    the factors "mott-bethe".  Beams of several layers may be at one place: add their amplitudes.

    Examples
    --------
    >>> silicon = Crystal.common("Si")
    >>> waves = bloch_waves(silicon, zone_axis=[0, 0, 1], energy_eV=200e3, thickness_A=[0, 300],
    ...                     k_max_A=1.2)
    >>> waves.intensity_of([0, 0, 0]).round(1).tolist()
    [1.0, 1.0]
    """
    beam = Beam.of(energy_eV)
    frame = chosen_orientation(crystal, orientation, zone_axis, x_hkl)
    depths = thicknesses(thickness_A)
    incident = incident_beams(beam, tilt_mrad, precession_mrad, azimuths)
    scattering = Scattering.of(
        crystal, frame, beam, incident, k_max_A=k_max_A, s_max_A=s_max_A,
        weak_s_max_A=weak_s_max_A, absorption=absorption,
    )  # fmt: skip
    if len(incident) * len(depths) * len(scattering.hkl) > _MOST_NUMBERS:
        raise ParameterError(
            f"{len(scattering.hkl)} beams at {len(depths)} thicknesses and {len(incident)} "
            "directions do not fit: take fewer"
        )
    amplitudes = np.stack([scattering.amplitudes(one, depths) for one in incident])
    history = made_by("bloch-waves", crystal, {
        "orientation": frame, "energy_eV": energy_eV, "thickness_A": depths, "k_max_A": k_max_A,
        "s_max_A": scattering.s_max_A, "weak_s_max_A": weak_s_max_A, "absorption": absorption,
        "tilt_mrad": tilt_mrad, "precession_mrad": precession_mrad, "azimuths": azimuths,
    }, _CITES)  # fmt: skip
    return BlochWaves(
        scattering.hkl, scattering.g_A[:, :2], scattering.s_A(incident.mean(axis=0)), depths,
        amplitudes, frame, crystal, float(energy_eV), history,
        report=scattering.report(amplitudes, incident),
    )  # fmt: skip


def thicknesses(thickness_A: float | Sequence[float] | Float) -> Float:
    """Thicknesses as an array (m,), checked."""
    depths = np.atleast_1d(np.asarray(thickness_A, np.float64))
    if depths.ndim != 1 or not len(depths):
        raise ShapeError(f"thicknesses are one number or a list, not {depths.shape}")
    if not (np.isfinite(depths) & (depths >= 0)).all():
        raise ParameterError("thicknesses are finite and not negative")
    return depths


@dataclass(frozen=True, eq=False)
class Scattering:
    """Beams of a crystal and how they scatter into each other.

    Parameters
    ----------
    hkl : (n, 3) int64
        The direct beam first.
    g_A : (n, 3) float64
        Along the sample axes.
    coupling : (n, n) complex128
        ``A_gh`` in Å⁻¹ without excitation errors.
    beam : Beam
    s_max_A, weak_s_max_A : float
        Limits of beams that are taken exactly, and by perturbation.
    """

    hkl: NDArray[np.int64]
    g_A: Float
    coupling: Complex
    beam: Beam
    s_max_A: float
    weak_s_max_A: float

    @classmethod
    def of(
        cls, crystal: Crystal, orientation: Float, beam: Beam, incident_A: Float, *,
        k_max_A: float, s_max_A: float | None, weak_s_max_A: float | None, absorption: float,
    ) -> Scattering:  # fmt: skip
        """All beams that any of the incident directions excites."""
        if not 0 <= absorption <= 1:
            raise ParameterError(f"absorption is a share from 0 to 1, not {absorption!r}")
        if not k_max_A <= _LONGEST_A:
            raise ParameterError(f"k_max_A is at most {_LONGEST_A:g} 1/A, not {k_max_A!r}")
        if s_max_A is None:
            s_max_A = _gap(crystal, orientation, beam, incident_A, k_max_A)
        if not (math.isfinite(s_max_A) and s_max_A > 0):
            raise ParameterError(f"s_max_A is positive, not {s_max_A!r}")
        weak = s_max_A if weak_s_max_A is None else weak_s_max_A
        if not s_max_A <= weak < math.inf:
            raise ParameterError(f"weak_s_max_A lies above s_max_A={s_max_A:g}, not at {weak!r}")
        hkl, g = candidates(crystal, orientation, beam, incident_A, k_max_A, weak)
        if len(hkl) > _MOST_BEAMS:
            raise ParameterError(
                f"{len(hkl)} beams are more than {_MOST_BEAMS}: lower k_max_A or s_max_A"
            )
        # F of the crystal has exp(+2πi h·r); the Fourier series of the potential has its conjugate.
        F = _differences(crystal, hkl).conj()
        linked = connected_components(np.abs(F) > _COUPLED * np.abs(F).max(), directed=False)[1]
        kept = linked == linked[0]
        coupling = beam.coupling_per_A(F[np.ix_(kept, kept)], crystal.volume_A3)
        return cls(hkl[kept], g[kept], coupling * (1 + 1j * absorption), beam, s_max_A, weak)

    def s_A(self, incident_A: Float) -> Float:
        """Excitation errors (n,)."""
        return self.beam.excitation_error_A(self.g_A, incident_A)

    def amplitudes(self, incident_A: Float, thickness_A: Float) -> Complex:
        """Of the exit wave for one incident direction, (m, n)."""
        s = self.s_A(incident_A)
        strong = np.flatnonzero(np.abs(s) <= self.s_max_A)
        weak = np.flatnonzero((np.abs(s) > self.s_max_A) & (np.abs(s) <= self.weak_s_max_A))
        matrix = self.coupling[np.ix_(strong, strong)]
        matrix[np.diag_indices(len(strong))] += s[strong]
        if len(weak):
            into = self.coupling[np.ix_(strong, weak)]
            matrix = matrix - (into / s[weak]) @ self.coupling[np.ix_(weak, strong)]
        out = np.zeros((len(thickness_A), len(s)), np.complex128)
        # At depth t, z = −t: what g_z adds to the phase in the plane of the exit surface.
        phase = np.exp(-2j * np.pi * thickness_A[:, None] * self.g_A[strong, 2])
        out[:, strong] = _behind(matrix, thickness_A) * phase
        return out

    def report(self, amplitudes: Complex, incident_A: Float) -> dict[str, Any]:
        """Counts, and the intensity in beams at the rim."""
        middle = self.s_A(incident_A.mean(axis=0))
        k = np.linalg.norm(self.g_A, axis=1)
        rim = (np.abs(middle) > _RIM * self.s_max_A) | (k > _RIM * k.max(initial=0.0))
        share = (np.abs(amplitudes[:, :, rim & (k > 0)]) ** 2).sum(axis=-1)
        return {
            "beams": len(self.hkl), "directions": len(incident_A), "s_max_A": self.s_max_A,
            "rim": float(share.max()),
        }  # fmt: skip


def _gap(
    crystal: Crystal, orientation: Float, beam: Beam, incident_A: Float, k_max_A: float
) -> float:
    """The excitation error, of a range, with the fewest and weakest beams about it.

    Beams that are left out push the others to either side by ``|A|²/s``; a limit amid strong ones
    leaves out those of one side, and keeps their counterparts.
    """
    middle = incident_A.mean(axis=0)
    low, high = _LIMITS_A
    hkl, g = candidates(crystal, orientation, beam, middle[None], k_max_A, high + 3 * _EDGE_A)
    s = np.abs(beam.excitation_error_A(g, middle))
    strength = np.abs(beam.coupling_per_A(crystal.structure_factors_A(hkl), crystal.volume_A3)) ** 2
    limits = np.arange(low, high + _EDGE_A / 4, _EDGE_A / 2)
    near = np.exp(-np.square((s[1:] - limits[:, None]) / _EDGE_A)) @ strength[1:]
    return float(limits[near.argmin()])


def _behind(matrix: Complex, thickness_A: Float) -> Complex:
    """``exp(2πi A t)`` applied to the direct beam, (m, n)."""
    if np.allclose(matrix, matrix.conj().T, rtol=0, atol=1e-14):
        # About a centre of symmetry it is real, which takes a quarter of the time.
        real = np.abs(matrix.imag).max() < 1e-14
        values, vectors = eigh(matrix.real if real else matrix)
        start = vectors[0].conj()
    else:
        values, vectors = np.linalg.eig(matrix)
        start = np.linalg.solve(vectors, np.eye(len(matrix))[0])
    waves = np.exp(2j * np.pi * thickness_A[:, None] * values) * start
    return np.asarray(waves @ vectors.T)


def _differences(crystal: Crystal, hkl: NDArray[np.int64]) -> Complex:
    """Structure factors of g − h for all pairs of beams, (n, n)."""
    reach = 2 * np.abs(hkl).max(axis=0)
    table = np.zeros(2 * reach + 1, np.complex128)
    between = hkl[:, None] - hkl[None] + reach
    flat = np.ravel_multi_index(tuple(between.reshape(-1, 3).T), table.shape)
    used = np.unique(flat)
    indices = np.stack(np.unravel_index(used, table.shape), axis=1) - reach
    far = np.linalg.norm(indices @ crystal.reciprocal_A, axis=1) > _PENG_A
    if far.any() and crystal.source == "peng":
        beyond = replace(crystal, source="mott-bethe").structure_factors_A(indices[far])
        table.ravel()[used[far]] = beyond
        used, indices = used[~far], indices[~far]
    table.ravel()[used] = crystal.structure_factors_A(indices)
    return np.asarray(table.ravel()[flat].reshape(len(hkl), len(hkl)))


def _to_parts(value: BlochWaves) -> dict[str, Any]:
    return {
        **vars(value),
        "crystal": value.crystal.plain(),
        "history": value.history.to_dict(),
        "report": dict(value.report),
    }


def _from_parts(parts: Mapping[str, Any]) -> BlochWaves:
    crystal, history = Crystal.of(parts["crystal"]), History.from_dict(parts["history"])
    return BlochWaves(**{**parts, "crystal": crystal, "history": history})


register_result("bloch-waves", BlochWaves, _to_parts, _from_parts)
