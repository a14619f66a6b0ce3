"""Blockfiles, MRC, TVIPS, TIA and TIFF: the first byte chooses the format."""

import numpy as np
from harness import Reader, Target, fuzz, made_by, tests_io

READERS = (
    ("blo", "a.blo"), ("mrc", "a.mrc"), ("mrc", "20240101_00001_movie.mrc"),
    ("tvips", "a_000.tvips"), ("ser", "a_1.ser"), ("emi", "a.emi"), ("tiff", "a.tif"),
    ("tiff", "a.tif.gz"), ("ripple", "a.rpl"),
)  # fmt: skip


def make() -> Target:
    beside = {"a.raw": bytes(range(240)), "20240101_00001_info.txt": INFO}
    readers = [Reader(format, name, beside) for format, name in READERS]

    def target(data: bytes) -> None:
        if len(data) > 1:
            readers[data[0] % len(readers)](data[1:])

    return target


INFO = b"""Scan - Enable = Enable
Scan - Size X = 3
Scan - Size Y = 2
Diffraction Pixel Size X = 0.1
"""
RIPPLE = b"""key\tvalue
width\t4
height\t5
depth\t6
offset\t0
data-length\t2
data-type\tunsigned
byte-order\tlittle-endian
record-by\timage
"""


def seeds() -> list[bytes]:
    tests_io()
    import test_vendors as vendor

    scan = np.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4).astype("u1")
    stack = scan.reshape(6, 4, 4).astype("u2")
    files = (
        (0, lambda p: vendor.write_blo(p, scan)),
        (1, lambda p: vendor.write_mrc(p, stack)),
        (2, lambda p: vendor.write_mrc(p, stack, ">", 128)),
        (3, lambda p: vendor.write_tvips(p, stack, [0, 0, 1, 2, 3, 4])),
        (4, lambda p: vendor.write_ser(p, scan.astype("u2"), 1e8)),
        (4, lambda p: vendor.write_ser(p, scan.astype("u2"), 1e-9, 5)),
        (6, lambda p: vendor.write_tiff(p, stack)),
        (6, lambda p: vendor.write_tiff(p, stack, ">", big=True)),
        (8, lambda p: p.write_bytes(RIPPLE)),
    )
    return [bytes([kind]) + made_by(write) for kind, write in files]


if __name__ == "__main__":
    fuzz(make, seeds, "py4DSTEM.io")
