"""Descriptions of Zarr arrays and groups (versions 2 and 3): the first byte chooses which file."""

import json

from harness import FolderReader, Target, fuzz

ARRAY2 = {
    "zarr_format": 2, "shape": [2, 2, 4, 4], "chunks": [1, 2, 4, 4], "dtype": "<u2",
    "compressor": None, "fill_value": 0, "order": "C", "filters": None,
}  # fmt: skip
ARRAY3 = {
    "zarr_format": 3, "node_type": "array", "shape": [2, 2, 4, 4], "data_type": "uint16",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 2, 4, 4]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0, "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    "attributes": {},
}  # fmt: skip
ATTRIBUTES = {"axes": [{"name": "Rx", "step": 1.0, "offset": 0.0, "unit": "nm"}] * 4}
CHUNKS = {f"{i}.0.0.0": bytes(range(64)) for i in range(2)}
CHUNKS3 = {f"c/{i}/0/0/0": bytes(range(64)) for i in range(2)}


def make() -> Target:
    readers = [
        FolderReader(name, "zarr.json", CHUNKS3) for name in ("zarr", "zarr-group")
    ] + [
        FolderReader("zarr-group", ".zarray", CHUNKS),
        FolderReader("zarr-group", ".zattrs", {".zarray": text(ARRAY2), **CHUNKS}),
        FolderReader("zspy", ".zattrs", {".zgroup": b'{"zarr_format": 2}'}),
    ]  # fmt: skip

    def target(data: bytes) -> None:
        if len(data) > 1:
            readers[data[0] % len(readers)](data[1:])

    return target


def text(value: object) -> bytes:
    return json.dumps(value).encode()


def seeds() -> list[bytes]:
    v3 = text(ARRAY3 | {"attributes": ATTRIBUTES})
    return [b"\0" + v3, b"\1" + v3, b"\2" + text(ARRAY2), b"\3" + text(ATTRIBUTES), b"\4{}"]


if __name__ == "__main__":
    fuzz(make, seeds, "py4DSTEM.io zarr.core.metadata")
