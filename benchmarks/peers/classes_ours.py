"""Worker that measures this package: NMF, k-means and mixtures of features in memory."""

from __future__ import annotations

from classes import CLASSES, serve_classes


def ways(scan):
    """Ways to the classes: NMF in memory and in parts, with and without judging them."""
    import numpy as np

    from py4DSTEM import RunOptions, classify, features

    shape = scan["labels"].shape
    table = features(scan["counts"].reshape(*shape, -1), transform="none", scale="block")

    def run(method="nmf", memory="1 GB", **choices):
        options = RunOptions(workers=1, memory=memory)
        found = classify(table, method=method, n=CLASSES, options=options, **choices)
        return np.asarray(found.weights)

    return {
        "nmf": lambda: run(stability_runs=0),
        "nmf-judged": run,
        "nmf-in-parts": lambda: run(memory="100 MB", stability_runs=0),
        "kmeans": lambda: run("kmeans", stability_runs=0),
        "gmm": lambda: run("gmm", stability_runs=0),
    }


if __name__ == "__main__":
    serve_classes(__doc__, ("py4DSTEM", "numpy", "scipy", "scikit-learn"), ways)
