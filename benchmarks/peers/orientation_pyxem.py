"""Worker that measures pyxem: template matching of polar images drawn from the spot lists."""

from __future__ import annotations

import warnings

import numpy as np
from orientation import BASIS, COLUMNS, ENERGY_EV, K_MAX, ROWS, A, SpotLists, serve_orientation

warnings.filterwarnings("ignore")
Q = 128


def images(lists: SpotLists) -> tuple[np.ndarray, float]:
    """Spots as Gaussians; roots of intensities, so that weak ones count."""
    pixel = 2 * K_MAX / Q
    out = np.zeros((len(lists.lists), Q, Q), np.float32)
    i = np.arange(Q)
    for image, spots in zip(out, lists.lists, strict=True):
        for x, y, value in spots:
            rows = np.exp(-((i - Q / 2 - x / pixel) ** 2) / 4.5)
            image += np.sqrt(value) * np.outer(rows, np.exp(-((i - Q / 2 - y / pixel) ** 2) / 4.5))
    return out, pixel


def make(lists: SpotLists):
    """The plan and the drawing are not timed; the polar transform is."""
    import pyxem
    from diffpy.structure import Atom, Lattice, Structure
    from diffsims.generators.simulation_generator import SimulationGenerator
    from orix.crystal_map import Phase
    from orix.sampling import get_sample_reduced_fundamental

    drawn, pixel = images(lists)
    structure = Structure([Atom("Au", p) for p in BASIS], Lattice(A, A, A, 90, 90, 90))
    phase = Phase(name="Au", space_group=225, structure=structure)
    rotations = get_sample_reduced_fundamental(resolution=2, point_group=phase.point_group)
    generator = SimulationGenerator(ENERGY_EV / 1e3, minimum_intensity=1e-4)
    templates = generator.calculate_diffraction2d(
        phase, rotation=rotations, reciprocal_radius=K_MAX, max_excitation_error=0.05,
        with_direct_beam=False,
    )  # fmt: skip
    signal = pyxem.signals.ElectronDiffraction2D(drawn.reshape(ROWS, COLUMNS, Q, Q))
    signal.calibration(scale=pixel, center=(Q / 2, Q / 2))

    def run() -> np.ndarray:
        polar = signal.get_azimuthal_integral2d(
            npt=64, npt_azim=180, inplace=False, mean=True, show_progressbar=False
        )
        found = polar.get_orientation(templates, n_best=1, frac_keep=1.0, show_progressbar=False)
        matrices = np.asarray(found.to_rotation().to_matrix())
        return matrices.reshape(len(lists.lists), -1, 3, 3)[:, 0]

    return run


if __name__ == "__main__":
    serve_orientation(__doc__, ("pyxem", "diffsims", "orix", "hyperspy", "numpy"), make)
