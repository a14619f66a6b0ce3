"""Chunks of HDF5: filters, their parameters and stored bytes, all from the input."""

import struct
import zlib

import numpy as np
from harness import Target, fuzz

HEAD = struct.Struct("<3B3xHH4I")


def make() -> Target:
    from py4DSTEM.io.hdf5 import codecs

    numbers = (1, 2, 3, 307, 32000, 32001, 32004, 32008, 32015)

    def target(data: bytes) -> None:
        if len(data) <= HEAD.size:
            return
        one, two, mask, nbytes, more, *params = HEAD.unpack_from(data)
        del more
        ids = [numbers[one % len(numbers)]]
        if two:
            ids.insert(0, numbers[two % len(numbers)])
        filters = [codecs.Filter(n, tuple(params)) for n in ids]
        pipeline = codecs.Pipeline(filters, nbytes)
        if not pipeline.decodes(mask & 3):
            return
        source = np.frombuffer(bytearray(data[HEAD.size :]), np.uint8)
        out = np.zeros(nbytes, np.uint8)
        try:
            pipeline.decode(source, mask & 3, out, codecs.Scratch())
        except codecs.DecodeError:
            return

    return target


def seeds() -> list[bytes]:
    import hdf5plugin

    plain = bytes(range(64)) * 4
    size, found = len(plain), []
    found.append(HEAD.pack(0, 0, 0, size, 0, 4, 0, 0, 0) + zlib.compress(plain))
    found.append(HEAD.pack(0, 1, 0, size, 0, 2, 0, 0, 0) + zlib.compress(plain))
    found.append(HEAD.pack(1, 0, 0, size, 0, 2, 0, 0, 0) + plain)
    for index, filt in ((4, "lzf"), (5, hdf5plugin.Blosc()), (6, hdf5plugin.LZ4()),
                        (7, hdf5plugin.Bitshuffle()), (8, hdf5plugin.Zstd())):  # fmt: skip
        stored, params = _chunk(plain, filt)
        found.append(HEAD.pack(index, 0, 0, size, 0, *params) + stored)
    return found


def _chunk(plain: bytes, filt: object) -> tuple[bytes, tuple[int, ...]]:
    """One chunk as HDF5 stores it, and the parameters of its filter."""
    import h5py

    with h5py.File("a.h5", "w", driver="core", backing_store=False) as file:
        options = {"compression": filt} if isinstance(filt, str) else dict(filt)
        data = np.frombuffer(plain, "u2")
        dataset = file.create_dataset("a", data=data, chunks=data.shape, **options)
        stored = dataset.id.read_direct_chunk((0,))[1]
        params = dataset.id.get_create_plist().get_filter(0)[2]
    return stored, (*params, 0, 0, 0, 0)[:4]


if __name__ == "__main__":
    fuzz(make, seeds, "py4DSTEM.io.hdf5")
