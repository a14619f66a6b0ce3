"""Worker that measures quantem: ``--way autograd`` (Adam) or ``--way analytic`` (steps down)."""

from __future__ import annotations

import argparse
import warnings

import numpy as np
from ptycho import Peer, Scan, serve_ptychography

warnings.filterwarnings("ignore")


def make(scan: Scan, options: argparse.Namespace) -> Peer:
    """Its ptychography with one object model and one probe model."""
    import matplotlib as mpl
    import torch

    mpl.use("Agg")
    torch.set_num_threads(options.threads)
    from quantem.core.datastructures import Dataset4dstem
    from quantem.diffractive_imaging.dataset_models import PtychographyDatasetRaster
    from quantem.diffractive_imaging.detector_models import DetectorPixelated
    from quantem.diffractive_imaging.object_models import ObjectPixelated
    from quantem.diffractive_imaging.probe_models import ProbePixelated
    from quantem.diffractive_imaging.ptychography import Ptychography

    sampling = (scan.step_A, scan.step_A, scan.pixel_per_A, scan.pixel_per_A)
    cube = Dataset4dstem.from_array(scan.data, sampling=sampling, units=("A", "A", "A^-1", "A^-1"))
    patterns = PtychographyDatasetRaster.from_dataset4dstem(
        cube, verbose=0, learn_descan=False, learn_scan_positions=False
    )
    patterns.preprocess(
        com_fit_function="constant", plot_rotation=False, plot_com=False,
        probe_energy=scan.energy_eV, force_com_rotation=0, force_com_transpose=False,
    )  # fmt: skip
    found = Ptychography.from_models(
        dset=patterns,
        obj_model=ObjectPixelated.from_uniform(
            num_slices=scan.slices, obj_type="complex",
            slice_thicknesses=scan.slice_A if scan.slices > 1 else 1.0,
        ),
        probe_model=ProbePixelated.from_params(
            num_probes=scan.modes,
            probe_params={
                "energy": scan.energy_eV, "defocus": scan.defocus_A,
                "semiangle_cutoff": scan.semiangle_mrad,
            },
        ),
        detector_model=DetectorPixelated(), rng=0, verbose=0,
    )  # fmt: skip
    found.preprocess(obj_padding_px=(16, 16), plot_rotation=False, plot_com=False)
    autograd = options.way == "autograd"
    kind, rates = ("adam", (5e-3, 1e-3)) if autograd else ("sgd", (0.5, 0.1))
    optimizers = {
        name: {"type": kind, "lr": rate}
        for name, rate in zip(("object", "probe"), rates, strict=True)
    }
    first = [{"optimizer_params": optimizers}]

    def passes(count: int) -> None:
        choices = first.pop() if first else {}
        found.reconstruct(
            num_iters=count, reset=False, batch_size=options.batch, device="cpu",
            autograd=autograd, **choices,
        )  # fmt: skip

    return Peer(passes, lambda: np.angle(np.asarray(found.obj)).sum(axis=0))


if __name__ == "__main__":
    needed = ("torch", "quantem.core.datastructures", "quantem.diffractive_imaging.ptychography")
    serve_ptychography(__doc__, ("quantem", "torch", "numpy", "scipy"), make, needed)
