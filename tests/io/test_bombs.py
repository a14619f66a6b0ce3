"""Small files that claim to be huge: refused, or opened without taking the memory they claim."""

from __future__ import annotations

import io
import json
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from py4DSTEM.core.cube import Cube
from py4DSTEM.errors import Py4DSTEMError
from py4DSTEM.io.format import RawLayout, ReadOptions
from py4DSTEM.io.read import read_file
from py4DSTEM.testing import formats as kit

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and limits")

Bomb = Callable[[Path], Path]
BOMBS: dict[str, Bomb] = {}
GROWTH_MB = 100
CPU_SECONDS = 1.0


def bomb(suffix: str) -> Callable[[Bomb], Bomb]:
    """Register a writer of a file ``bomb<suffix>``."""

    def register(write: Bomb) -> Bomb:
        def at(folder: Path) -> Path:
            path = folder / f"bomb{suffix}"
            write(path)
            return path

        BOMBS[write.__name__] = at
        return at

    return register


def npy_header(text: str, version: tuple[int, int] = (1, 0), length: int | None = None) -> bytes:
    raw = text.encode().ljust(118) + b"\n"
    code = "<H" if version == (1, 0) else "<I"
    return b"\x93NUMPY" + bytes(version) + struct.pack(code, length or len(raw)) + raw


# ---- numpy ---------------------------------------------------------------------------------------
@bomb(".npy")
def npy_of_a_pebibyte(path: Path) -> None:
    shape = (8192, 8192, 4096, 4096)
    path.write_bytes(npy_header(f"{{'descr': '<u2', 'fortran_order': False, 'shape': {shape}}}"))


@bomb(".npy")
def npy_larger_than_64_bits(path: Path) -> None:
    shape = (2**40, 2**40, 2**40, 2**40)
    path.write_bytes(npy_header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}"))


@bomb(".npy")
def npy_header_of_two_gigabytes(path: Path) -> None:
    path.write_bytes(npy_header("{}", (2, 0), 2**31))


@bomb(".npy")
def npy_header_of_brackets(path: Path) -> None:
    path.write_bytes(npy_header("(" * 50_000, (2, 0)))


@bomb(".npy")
def npy_with_a_huge_item(path: Path) -> None:
    path.write_bytes(npy_header("{'descr': '<U1073741823', 'fortran_order': False, 'shape': (9,)}"))


# ---- HDF5 ----------------------------------------------------------------------------------------
@bomb(".h5")
def h5_of_terabytes_without_chunks(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("scan", (4096, 4096, 512, 512), "u2", chunks=(1, 1, 512, 512))


@bomb(".h5")
def h5_contiguous_and_not_allocated(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("scan", (1024, 1024, 512, 512), "u2")


def zeros_compressed(size: int) -> bytes:
    """A stream of `zlib` that unpacks to `size` zeros."""
    pack = zlib.compressobj(9)
    return b"".join(pack.compress(bytes(1 << 20)) for _ in range(size >> 20)) + pack.flush()


@bomb(".h5")
def h5_chunk_of_gigabytes(path: Path) -> None:
    """It claims three gigabytes, and holds a megabyte."""
    shape = (64, 48, 1024, 512)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("scan", shape, "u2", chunks=shape, compression="gzip")
        data.id.write_direct_chunk((0, 0, 0, 0), zeros_compressed(1 << 20))


@bomb(".h5")
def h5_chunk_that_unpacks_to_more(path: Path) -> None:
    """A chunk of a megabyte whose stream holds a quarter of a gigabyte."""
    shape = (2, 2, 512, 256)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("scan", shape, "u2", chunks=shape, compression="gzip")
        data.id.write_direct_chunk((0, 0, 0, 0), zeros_compressed(256 << 20))


@bomb(".h5")
def h5_with_two_thousand_levels(path: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        group: h5py.Group = file
        for _ in range(2000):
            group = group.create_group("g")
        group.create_dataset("scan", data=np.zeros((2, 2, 4, 4)))


@bomb(".h5")
def h5_image_of_gigabytes(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("image", (100_000, 100_000), "f8", chunks=(1000, 1000))


@bomb(".emd")
def emd_02_of_terabytes(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs.update({"version_major": 0, "version_minor": 2})
        group = file.create_group("data/cube")
        group.attrs["emd_group_type"] = 1
        group.create_dataset("data", (2048, 2048, 512, 512), "u2", chunks=(1, 1, 512, 512))
        for k in range(1, 5):
            group.create_dataset(f"dim{k}", (2**33,), "f8", chunks=(1 << 16,))


@bomb(".hspy")
def hspy_of_terabytes(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs.update({"file_format": "HyperSpy", "file_format_version": "3.1"})
        group = file.create_group("Experiments/x")
        group.create_dataset("data", (2048, 2048, 512, 512), "u2", chunks=(1, 1, 512, 512))
        for k, n in enumerate((2048, 2048, 512, 512)):
            axis = group.create_group(f"axis-{k}")
            axis.attrs.update({"size": n, "scale": 1.0, "offset": 0.0, "navigate": k < 2,
                               "name": "x", "units": "nm", "index_in_array": k})  # fmt: skip


@bomb("_master.h5")
def arina_of_terabytes(path: Path) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_group("entry/data")
        data.create_dataset("data_000001", (2**24, 512, 512), "u4", chunks=(1, 512, 512))
        specific = file.create_group("entry/instrument/detector/detectorSpecific")
        specific["nimages"], specific["ntrigger"] = 1, 2**24
        file["entry"].attrs["NX_class"] = "NXentry"


# ---- vendors -------------------------------------------------------------------------------------
@bomb(".blo")
def blo_of_terabytes(path: Path) -> None:
    fields = (
        b"IMGBLO",
        0x0102,
        4096,
        8192,
        0,
        40_000,
        0,
        1000,
        1000,
        0,
        1.0,
        1.0,
        200_000,
        0,
        0,
        0.0,
    )
    path.write_bytes(struct.pack("<6sHIIIHHHHHddIHId", *fields).ljust(20_000, b"\0"))


def mrc(path: Path, nx: int, ny: int, nz: int, extended: int = 0, flags: bytes = b"") -> None:
    head = bytearray(1024)
    struct.pack_into("<4I", head, 0, nx, ny, nz, 6)
    struct.pack_into("<3I3f", head, 28, 1, 1, 1, 1.0, 1.0, 1.0)
    struct.pack_into("<3I", head, 64, 1, 2, 3)
    struct.pack_into("<I", head, 92, extended)
    head[208:216] = b"MAP \x44\x44\0\0"
    path.write_bytes(bytes(head) + bytes(4096))


@bomb(".mrc")
def mrc_pattern_of_exabytes(path: Path) -> None:
    mrc(path, 10**9, 10**9, 1)


@bomb(".mrc")
def mrc_of_four_billion_frames(path: Path) -> None:
    mrc(path, 32, 32, 2**32 - 1)


@bomb(".mrc")
def mrc_with_a_huge_extended_header(path: Path) -> None:
    mrc(path, 8, 8, 4, extended=2**31 - 1)


def dm_start(version: int, size: int) -> bytes:
    wide = ">IQI" if version == 4 else ">III"
    return struct.pack(wide, version, size, 1)


@bomb(".dm3")
def dm3_of_two_billion_tags(path: Path) -> None:
    path.write_bytes(dm_start(3, 4000) + b"\1\0" + struct.pack(">I", 2**31) + bytes(4000))


@bomb(".dm4")
def dm4_of_all_tags_there_can_be(path: Path) -> None:
    path.write_bytes(dm_start(4, 4000) + b"\1\0" + struct.pack(">Q", 2**63) + bytes(4000))


@bomb(".dm4")
def dm4_array_of_an_exabyte(path: Path) -> None:
    words = struct.pack(">4Q", 3, 20, 4, 2**58)
    entry = b"\x15" + struct.pack(">H", 4) + b"Data" + bytes(8) + b"%%%%" + words
    path.write_bytes(dm_start(4, 4000) + b"\1\0" + struct.pack(">Q", 1) + entry + bytes(4000))


@bomb(".dm3")
def dm3_nested_without_end(path: Path) -> None:
    group = b"\1\0" + struct.pack(">I", 1) + b"\x14" + struct.pack(">H", 1) + b"g"
    path.write_bytes(dm_start(3, 10 * 20_000) + group * 20_000)


def mib(path: Path, header: int = 384, width: int = 256, height: int = 256) -> None:
    text = (
        f"MQ1,000001,{header:05d},01,{width:04d},{height:04d},U16,   1x1,0F,"
        "2021-05-07 18:51:10.905800,0.100000,0,0,0,4.0E+1,MQ1A,12,"
    )
    path.write_bytes(text.encode().ljust(384, b"\0") + bytes(4000))


@bomb(".mib")
def mib_pattern_of_exabytes(path: Path) -> None:
    mib(path, width=10**9, height=10**9)


@bomb(".mib")
def mib_header_of_gigabytes(path: Path) -> None:
    mib(path, header=2**33)


@bomb(".ser")
def ser_of_four_billion_elements(path: Path) -> None:
    head = struct.pack("<HHHIIII", 0x4949, 0x0197, 0x0210, 0x4122, 0x4152, 2**32 - 1, 2**32 - 1)
    path.write_bytes((head + struct.pack("<II", 60, 1)).ljust(4000, b"\1"))


@bomb(".seq")
def seq_pattern_of_exabytes(path: Path) -> None:
    head = bytearray(8192)
    struct.pack_into("<I", head, 0, 0xFEED)
    head[4:28] = "Norpix seq\n".encode("utf-16-le").ljust(24, b"\0")
    struct.pack_into("<ii", head, 28, 5, 1024)
    struct.pack_into("<6I", head, 548, 2**31, 2**31, 16, 16, 2**31, 100)
    struct.pack_into("<3I", head, 572, 2**32 - 1, 0, 2**31)
    path.write_bytes(bytes(head) + bytes(4000))


@bomb(".tvips")
def tvips_pattern_of_terabytes(path: Path) -> None:
    fields = (256, 2, 2**20 - 1, 2**20 - 1, 16, 0, 0, 1, 1, 200, 1, 1024)
    path.write_bytes(struct.pack("<12I", *fields).ljust(256, b"\0") + bytes(8000))


def tiff(path: Path, entries: list[tuple[int, int, int, int]], following: int = 0) -> None:
    body = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", tag, kind, count, value) for tag, kind, count, value in entries
    )
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + body + struct.pack("<I", following))


@bomb(".tif")
def tif_of_exabytes(path: Path) -> None:
    tiff(path, [(256, 4, 1, 2**31), (257, 4, 1, 2**31), (258, 3, 1, 16), (259, 3, 1, 1),
                (262, 3, 1, 1), (273, 4, 1, 8), (278, 4, 1, 2**31), (279, 4, 1, 100)])  # fmt: skip


@bomb(".tif")
def tif_with_pages_in_a_circle(path: Path) -> None:
    tiff(path, [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
                (273, 4, 1, 8), (278, 4, 1, 8), (279, 4, 1, 64)], following=8)  # fmt: skip


@bomb(".tif")
def tif_with_a_billion_strips(path: Path) -> None:
    many = 10**9
    tiff(path, [(256, 4, 1, 8), (257, 4, 1, many), (258, 3, 1, 8), (259, 3, 1, 1),
                (262, 3, 1, 1), (273, 4, many, 8), (278, 4, 1, 1), (279, 4, many, 8)])  # fmt: skip


@bomb(".rpl")
def ripple_of_exabytes(path: Path) -> None:
    rows = ["key\tvalue", "width\t1000000000", "height\t1000000000", "depth\t1000",
            "offset\t0", "data-length\t2", "data-type\tunsigned", "byte-order\tlittle-endian",
            "record-by\timage"]  # fmt: skip
    path.write_text("\n".join(rows) + "\n")
    path.with_suffix(".raw").write_bytes(bytes(4000))


@bomb(".xml")
def xml_of_a_billion_laughs(path: Path) -> None:
    lines = [f'<!ENTITY a{k + 1} "{f"&a{k};" * 10}">' for k in range(12)]
    path.write_text(
        '<?xml version="1.0"?>\n<!DOCTYPE root [<!ENTITY a0 "ha">' + "".join(lines)
        + "]>\n<root><raw_file filename='a.raw'/>&a12;</root>"
    )  # fmt: skip


@bomb(".prz")
def prz_that_unpacks_to_gigabytes(path: Path) -> None:
    head = io.BytesIO()
    fields = {"descr": "<u2", "fortran_order": False, "shape": (64, 64, 512, 512)}
    np.lib.format.write_array_header_1_0(head, fields)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("data.npy", "w") as part,
    ):
        part.write(head.getvalue())
        for _ in range(256):
            part.write(bytes(1 << 20))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("meta_data.npy", b"not an array")


def zarr_folder(path: Path, shape: list[int], chunks: list[int]) -> None:
    path.mkdir()
    facts = {"zarr_format": 2, "shape": shape, "chunks": chunks, "dtype": "<u2", "order": "C",
             "compressor": None, "filters": None, "fill_value": 0}  # fmt: skip
    (path / ".zarray").write_text(json.dumps(facts))


@bomb(".zarr")
def zarr_of_exabytes(path: Path) -> None:
    zarr_folder(path, [2**20, 2**20, 2**12, 2**12], [1, 1, 2**12, 2**12])


@bomb(".zarr")
def zarr_chunk_of_terabytes(path: Path) -> None:
    zarr_folder(path, [2**10, 2**10, 2**10, 2**10], [2**10, 2**10, 2**10, 2**10])


@bomb(".raw")
def raw_layout_of_exabytes(path: Path) -> None:
    path.write_bytes(bytes(4000))


# ---- what becomes of them ------------------------------------------------------------------------
def explode(path: Path) -> str:
    """Open it, and read one pattern of every scan."""
    start = time.process_time()
    layout = RawLayout(dtype="<f8", Q_shape=(2**31, 2**31)) if path.suffix == ".raw" else None
    try:
        value = read_file(path, ReadOptions(layout=layout, scan_shape=layout and (9, 9)))
        for obj in value.values() if isinstance(value, dict) else [value]:
            repr(obj)
            if isinstance(obj, Cube):
                pattern = obj[0, 0]
                del pattern
        outcome = "opened|"
    except Py4DSTEMError as error:
        if path.name not in str(error):
            return f"raw|the file is not named: {error}"
        outcome = f"refused|{type(error).__name__}: {error}"
    except OSError as error:
        return f"raw|{error!r}"
    seconds = time.process_time() - start
    return outcome if seconds < CPU_SECONDS else f"slow|{seconds:.1f} s, {outcome}"


@pytest.fixture(scope="module")
def limits() -> Iterator[None]:
    """Readers loaded, so that the child measures the file alone, and our limit of memory."""
    kit._warm_up()
    before = kit.GROWTH_BYTES
    kit.GROWTH_BYTES = GROWTH_MB * 10**6
    yield
    kit.GROWTH_BYTES = before


@pytest.mark.parametrize("name", BOMBS)
def test_bomb(name: str, tmp_path: Path, limits: None) -> None:
    path = BOMBS[name](tmp_path)
    outcome, detail = kit._in_child(lambda: explode(path), 0)
    assert outcome in ("refused", "opened"), f"{outcome}: {detail}"


def test_there_are_enough_of_them() -> None:
    assert len(BOMBS) >= 30
