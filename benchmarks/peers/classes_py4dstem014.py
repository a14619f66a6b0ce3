"""Worker that measures py4DSTEM 0.14: NMF and mixtures of its featurization."""

from __future__ import annotations

import warnings

from classes import CLASSES, serve_classes

# What 0.14 warns of is its own.
warnings.filterwarnings("ignore")


def ways(scan):
    """Ways to the classes: traditional NMF."""
    import numpy as np
    from py4DSTEM.process.classification.featurization import Featurization

    nx, ny = scan["labels"].shape
    table = Featurization([scan["counts"]], nx, ny, "bench")

    def nmf():
        found = table.NMF(CLASSES, 1, random_seed=0, return_results=True)
        weights = found[0] if isinstance(found, list | tuple) else found
        return np.asarray(weights).reshape(-1, CLASSES)

    return {"nmf": nmf}


if __name__ == "__main__":
    serve_classes(__doc__, ("py4DSTEM", "numpy", "scipy", "scikit-learn"), ways)
