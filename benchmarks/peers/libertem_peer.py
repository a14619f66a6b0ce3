"""Worker that measures LiberTEM with one of its executors.

``--style stack``: everything that is linear as one stack of masks; ``--style udf``: detectors as
masks, centre of mass as LiberTEM's CoMUDF, both in one pass. Mean and maximum are separate
functions of the same pass. The executor and the data set are made before the clock starts.
"""

from __future__ import annotations

import numpy as np
from protocol import Answer, Scan, arguments, serve


def context(executor: str, workers: int):
    """A LiberTEM context with a fixed number of threads or processes."""
    import libertem.api as lt
    from libertem.executor.inline import InlineJobExecutor

    if executor == "inline":
        return lt.Context(executor=InlineJobExecutor(inline_threads=workers))
    return lt.Context.make_with(executor, cpus=workers)


def load(ctx, scan: Scan):
    """The data set of the scan file."""
    if scan.is_hdf5:
        return ctx.load("hdf5", path=str(scan.path), ds_path="data")
    return ctx.load("npy", path=str(scan.path))


def maximum_udf():
    """The maximum over the scan as a user-defined function."""
    from libertem.udf import UDF

    class MaximumUDF(UDF):
        def get_result_buffers(self):
            return {"maximum": self.buffer(kind="sig", dtype=self.meta.input_dtype)}

        def process_tile(self, tile):
            np.maximum(self.results.maximum, tile.max(axis=0), out=self.results.maximum)

        def merge(self, dest, src):
            np.maximum(dest.maximum, src.maximum, out=dest.maximum)

    return MaximumUDF()


def make_job(ctx, data, scan: Scan, job: str, style: str):
    """A function that runs one job in one pass."""
    from libertem.udf.com import CoMUDF
    from libertem.udf.masks import ApplyMasksUDF
    from libertem.udf.sum import SumUDF

    masks = scan.masks(job)
    stack = np.stack(list(masks.values())).astype(np.float32)
    linear_com = job != "one" and style == "stack"
    if linear_com:
        moments = np.stack([np.ones(scan.shape[2:]), *np.indices(scan.shape[2:])])
        stack = np.concatenate([stack, moments.astype(np.float32)])

    def run() -> Answer:
        udfs = [
            ApplyMasksUDF(
                mask_factories=lambda: stack,
                mask_dtype=np.float32,
                mask_count=len(stack),
                use_sparse=False,
            )
        ]
        if job != "one" and not linear_com:
            udfs.append(CoMUDF.with_params(cy=0, cx=0))
        if job == "many":
            udfs += [SumUDF(), maximum_udf()]
        results = ctx.run_udf(dataset=data, udf=udfs)
        sums = results[0]["intensity"].data
        arrays = {name: sums[..., m] for m, name in enumerate(masks)}
        if linear_com:
            arrays["com_x"], arrays["com_y"] = (
                sums[..., -2] / sums[..., -3],
                sums[..., -1] / sums[..., -3],
            )
        elif job != "one":
            com = results[1]["raw_com"].data
            arrays["com_x"], arrays["com_y"] = com[..., 0], com[..., 1]
        if job == "many":
            patterns = scan.shape[0] * scan.shape[1]
            arrays["mean"] = results[-2]["intensity"].data / patterns
            arrays["max"] = results[-1]["maximum"].data
        return Answer(arrays)

    return run


def main() -> None:
    """Start the worker."""
    options = arguments(__doc__, executor=("inline", "pipelined", "dask"), style=("udf", "stack"))
    scan = options.scan
    kept = []

    def make() -> dict:
        ctx = context(options.executor, options.workers)
        kept.append(ctx)
        data = load(ctx, scan)
        return {
            job: make_job(ctx, data, scan, job, options.style) for job in ("one", "basic", "many")
        }

    packages = ("libertem", "numpy", "numba", "dask", "distributed", "h5py", "hdf5plugin")
    serve(make, packages, stop=lambda: kept[0].close(), check=scan.compare)


if __name__ == "__main__":
    main()
