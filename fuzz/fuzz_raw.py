"""Raw files: here the description is the input, the first bytes of each case."""

import struct

from harness import Reader, Target, fuzz

DTYPES = ("uint8", ">u2", "int32", "float64", "bool", "complex64", "nonsense", "O", "M8", "")


def make() -> Target:
    reader = Reader("raw", "a.raw")

    def target(data: bytes) -> None:
        from py4DSTEM.errors import Py4DSTEMError
        from py4DSTEM.io.format import RawLayout

        if len(data) < 14:
            return
        kind, rows, columns, offset, gap, truth = struct.unpack_from("<BhhiiB", data)
        try:
            reader.options = {
                "layout": RawLayout(
                    dtype=DTYPES[kind % len(DTYPES)], Q_shape=(rows, columns),
                    offset_bytes=offset, gap_bytes=gap,
                ),
                "scan_shape": (truth >> 4, truth & 15) if truth else None,
            }  # fmt: skip
        except (Py4DSTEMError, ValueError):
            return
        reader(data[14:])

    return target


def seeds() -> list[bytes]:
    heads = ((1, 2, 3, 0, 0, 0x22), (0, 4, 4, 8, 2, 0), (3, 1, 1, 0, 8, 0x11))
    return [struct.pack("<BhhiiB", *head) + bytes(range(64)) for head in heads]


if __name__ == "__main__":
    fuzz(make, seeds, "py4DSTEM.io")
