"""Worker that measures ptyrad: Adam on gradients by automatic differentiation, its defaults."""

from __future__ import annotations

import argparse
import sys
import types

import numpy as np
from ptycho import Peer, Scan, serve_ptychography

KEPT: list[object] = []


def _without_plots() -> None:
    """ptyrad 1.0.0 has an f-string in its plots that only Python 3.12 can parse."""
    if sys.version_info >= (3, 12):
        return
    for name in ("", ".basic", ".model"):
        module = types.ModuleType("ptyrad.plotting" + name)
        module.plot_summary = module.plot_pos_grouping = lambda *a, **k: None
        module.__path__, module.__file__ = [], "nothing.py"
        sys.modules["ptyrad.plotting" + name] = module


def _with_torchvision() -> object:
    """A torchvision whose compiled part does not fit torch is good for the blur that ptyrad takes.

    Its import asks for one of its compiled functions; the name is enough.
    """
    import torch

    try:
        import torchvision
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return torchvision


def make(scan: Scan, options: argparse.Namespace) -> Peer:
    """Its model, optimizer and batches."""
    import torch

    torch.set_num_threads(options.threads)
    from ptyrad.core.constraints import CombinedConstraint
    from ptyrad.core.losses import CombinedLoss
    from ptyrad.core.models import PtychoModel
    from ptyrad.init import Initializer
    from ptyrad.params import PtyRADParams
    from ptyrad.solver.reconstruction import (
        compute_loss,
        create_optimizer,
        make_batches,
        recon_step,
        select_scan_indices,
    )

    rows, columns, pixels = scan.data.shape[:3]
    wanted = {
        "init_params": {
            "probe_kv": scan.energy_eV / 1e3, "probe_conv_angle": scan.semiangle_mrad,
            "probe_aberrations": {"C10": -scan.defocus_A}, "meas_Npix": pixels,
            "pos_N_scan_slow": rows, "pos_N_scan_fast": columns,
            "pos_scan_step_size": scan.step_A, "probe_pmode_max": scan.modes,
            "meas_calibration": {"mode": "dk", "value": float(scan.pixel_per_A)},
            "obj_Nlayer": scan.slices,
            "obj_slice_thickness": scan.slice_A if scan.slices > 1 else 1.0,
            "meas_source": "custom",
            "meas_params": scan.data.reshape(-1, *scan.data.shape[2:]),
        },
        "recon_params": {
            "NITER": 1, "BATCH_SIZE": {"size": options.batch, "grad_accumulation": 1},
            "SAVE_ITERS": None,
        },
    }  # fmt: skip
    known = PtyRADParams(**wanted).model_dump()
    start = Initializer(known["init_params"]).init_all()
    model = PtychoModel(start.init_variables, known["model_params"], device="cpu")
    optimizer = create_optimizer(model.optimizer_params, model.optimizable_params)
    loss = CombinedLoss(known["loss_params"], device="cpu")
    constraint = CombinedConstraint(known["constraint_params"], device="cpu")
    chosen = select_scan_indices(rows, columns, mode="full")
    places = (model.crop_pos + model.opt_probe_pos_shifts).detach().cpu().numpy()
    groups = make_batches(chosen, places, options.batch, mode="random", seed=0)
    batches = [torch.from_numpy(group) for group in groups]
    done = [0]

    def passes(count: int) -> None:
        for _ in range(count):
            done[0] += 1
            recon_step(
                batches, 1, model, optimizer, None, loss, constraint, done[0], acc=None,
                compute_loss_fn=compute_loss,
            )  # fmt: skip

    return Peer(passes, lambda: np.asarray(model.opt_objp.detach().cpu()).sum(axis=(0, 1)))


if __name__ == "__main__":
    KEPT.append(_with_torchvision())
    _without_plots()
    needed = ("torch", "ptyrad.init", "ptyrad.solver.reconstruction")
    serve_ptychography(__doc__, ("ptyrad", "torch", "numpy", "scipy"), make, needed)
