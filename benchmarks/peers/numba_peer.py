"""Worker with a hand-written numba loop: what a good programmer writes for exactly this job.

``--reader``: how a compressed HDF5 file is read. ``h5py`` reads one scan row per call;
``direct`` takes the chunks as they are stored and decodes them in the worker threads (needs the
bitshuffle package). A .npy file is mapped.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from protocol import Answer, Scan, arguments, serve

PATTERNS_PER_TASK = 512


def kernels() -> tuple[Callable, Callable]:
    """The two loops, compiled at their first call; both release the GIL.

    Returns
    -------
    sums : frames (n, Qx, Qy) u2, weights (m, Qx, Qy) u4, images (n, m), com (n, 2), want_com
    extremes : frames, total (Qx, Qy) u8, maximum (Qx, Qy) u2
    """
    import numba

    fast = numba.njit(nogil=True, fastmath=True, boundscheck=False, cache=True)

    @fast
    def sums(frames, weights, images, com, want_com):
        n, nx, ny = frames.shape
        columns = np.empty(ny, np.uint32)
        for p in range(n):
            for m in range(weights.shape[0]):
                total = np.uint64(0)
                for i in range(nx):
                    row = np.uint32(0)
                    for j in range(ny):
                        row += np.uint32(frames[p, i, j]) * weights[m, i, j]
                    total += np.uint64(row)
                images[p, m] = total
            if not want_com:
                continue
            columns[:] = 0
            total = np.uint64(0)
            first = np.uint64(0)
            for i in range(nx):
                row = np.uint32(0)
                for j in range(ny):
                    value = np.uint32(frames[p, i, j])
                    row += value
                    columns[j] += value
                total += np.uint64(row)
                first += np.uint64(row) * np.uint64(i)
            second = np.uint64(0)
            for j in range(ny):
                second += np.uint64(columns[j]) * np.uint64(j)
            com[p, 0] = first / total
            com[p, 1] = second / total

    @fast
    def fused(frames, weights, images, com):
        n, nx, ny = frames.shape
        columns = np.empty(ny, np.uint32)
        for p in range(n):
            columns[:] = 0
            a = np.uint64(0)
            b = np.uint64(0)
            total = np.uint64(0)
            first = np.uint64(0)
            for i in range(nx):
                ra = np.uint32(0)
                rb = np.uint32(0)
                row = np.uint32(0)
                for j in range(ny):
                    value = np.uint32(frames[p, i, j])
                    ra += value * weights[0, i, j]
                    rb += value * weights[1, i, j]
                    row += value
                    columns[j] += value
                a += np.uint64(ra)
                b += np.uint64(rb)
                total += np.uint64(row)
                first += np.uint64(row) * np.uint64(i)
            second = np.uint64(0)
            for j in range(ny):
                second += np.uint64(columns[j]) * np.uint64(j)
            images[p, 0] = a
            images[p, 1] = b
            com[p, 0] = first / total
            com[p, 1] = second / total

    @fast
    def extremes(frames, total, maximum):
        for p in range(frames.shape[0]):
            for i in range(frames.shape[1]):
                for j in range(frames.shape[2]):
                    value = frames[p, i, j]
                    total[i, j] += value
                    maximum[i, j] = max(maximum[i, j], value)

    def any_sums(frames, weights, images, com, want_com):
        if want_com and len(weights) == 2:
            fused(frames, weights, images, com)
        else:
            sums(frames, weights, images, com, want_com)

    return any_sums, extremes


def mapped_blocks(scan: Scan) -> Iterator[tuple[int, Callable[[], np.ndarray]]]:
    """(first pattern, function that gives the block) of a .npy file."""
    frames = np.load(scan.path, mmap_mode="r").reshape(-1, *scan.shape[2:])
    frames = np.asarray(frames)
    for start in range(0, len(frames), PATTERNS_PER_TASK):
        yield start, lambda s=start: frames[s : s + PATTERNS_PER_TASK]


def h5py_blocks(scan: Scan) -> Iterator[tuple[int, Callable[[], np.ndarray]]]:
    """One scan row per block, read by the thread that asks for the next block."""
    import h5py
    import hdf5plugin  # noqa: F401  registers the filter

    with h5py.File(scan.path, "r") as file:
        for rx in range(scan.shape[0]):
            row = file["data"][rx]
            yield rx * scan.shape[1], lambda r=row: r


def direct_blocks(scan: Scan) -> Iterator[tuple[int, Callable[[], np.ndarray]]]:
    """Stored chunks, decoded by the thread that computes."""
    import bitshuffle
    import h5py

    with h5py.File(scan.path, "r") as file:
        data = file["data"]
        chunk, dtype = data.chunks, data.dtype
        places = []
        data.id.chunk_iter(places.append)
    stored = np.memmap(scan.path, np.uint8, "r")

    def decode(place) -> np.ndarray:
        raw = stored[place.byte_offset : place.byte_offset + place.size]
        block = struct.unpack(">QI", raw[:12].tobytes())[1] // dtype.itemsize
        return bitshuffle.decompress_lz4(raw[12:], chunk[1:], dtype, block)

    for place in places:
        rx, ry = place.chunk_offset[:2]
        yield rx * scan.shape[1] + ry, lambda p=place: decode(p)


def compute(scan: Scan, job: str, blocks: Callable, workers: int, loops: tuple) -> Answer:
    """One pass over the scan in `workers` threads."""
    any_sums, extremes = loops
    stack = scan.masks(job)
    weights = np.stack(list(stack.values())).astype(np.uint32)
    n = scan.shape[0] * scan.shape[1]
    images, com = np.empty((n, len(stack)), np.uint64), np.empty((n, 2))

    def work(start: int, get: Callable[[], np.ndarray]) -> tuple | None:
        frames = get()
        place = slice(start, start + len(frames))
        any_sums(frames, weights, images[place], com[place], job != "one")
        if job != "many":
            return None
        total, maximum = np.zeros(frames.shape[1:], np.uint64), np.zeros(frames.shape[1:], "u2")
        extremes(frames, total, maximum)
        return total, maximum

    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(lambda item: work(*item), blocks(scan)))
    arrays = {name: images[:, m].reshape(scan.shape[:2]) for m, name in enumerate(stack)}
    if job != "one":
        arrays |= {"com_x": com[:, 0], "com_y": com[:, 1]}
    if job == "many":
        arrays["mean"] = sum(total for total, _ in parts) / n
        arrays["max"] = np.max([maximum for _, maximum in parts], axis=0)
    return Answer(arrays)


def main() -> None:
    """Start the worker."""
    options = arguments(__doc__, reader=("direct", "h5py"))
    scan = options.scan
    readers = {"direct": direct_blocks, "h5py": h5py_blocks}
    blocks = readers[options.reader] if scan.is_hdf5 else mapped_blocks

    def make() -> dict:
        loops = kernels()
        return {
            job: lambda job=job: compute(scan, job, blocks, options.workers, loops)
            for job in ("one", "basic", "many")
        }

    serve(make, ("numba", "numpy", "h5py", "hdf5plugin", "bitshuffle"), check=scan.compare)


if __name__ == "__main__":
    main()
