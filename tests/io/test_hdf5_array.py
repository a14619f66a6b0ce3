"""`Hdf5Array` against h5py, value by value."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from py4DSTEM.errors import CorruptFile, FormatError, ShapeError
from py4DSTEM.io.hdf5 import Hdf5Array
from py4DSTEM.io.hdf5 import array as array_module
from py4DSTEM.io.hdf5.codecs import DecodeError, Filter, Pipeline, Scratch, fletcher32
from py4DSTEM.io.hdf5.sources import Layout, Mapped, ThroughHdf5, ViaChunks

SHAPE = (5, 7, 6, 10)
FILTERS = {
    "none": {},
    "gzip": {"compression": "gzip", "compression_opts": 1},
    "gzip-shuffle": {"compression": "gzip", "shuffle": True},
    "gzip-shuffle-fletcher": {"compression": "gzip", "shuffle": True, "fletcher32": True},
    "fletcher": {"fletcher32": True},
    "shuffle": {"shuffle": True},
    "lzf": {"compression": "lzf"},
    "lzf-shuffle": {"compression": "lzf", "shuffle": True},
    "bitshuffle-lz4": dict(hdf5plugin.Bitshuffle(cname="lz4")),
    "bitshuffle-zstd": dict(hdf5plugin.Bitshuffle(cname="zstd")),
    "bitshuffle": dict(hdf5plugin.Bitshuffle(cname="none")),
    "bitshuffle-lz4-blocks": dict(hdf5plugin.Bitshuffle(nelems=16, cname="lz4")),
    "lz4": dict(hdf5plugin.LZ4()),
    "lz4-blocks": dict(hdf5plugin.LZ4(nbytes=64)),
    "zstd": dict(hdf5plugin.Zstd()),
    "blosc-lz4": dict(hdf5plugin.Blosc(cname="lz4")),
    "blosc-zstd": dict(hdf5plugin.Blosc(cname="zstd", shuffle=hdf5plugin.Blosc.BITSHUFFLE)),
    "blosc2": dict(hdf5plugin.Blosc2()),
    "bzip2": dict(hdf5plugin.BZip2()),
    "scaleoffset": {"scaleoffset": 0},
}
NOT_HERE = {"blosc2", "scaleoffset"}
LOSSLESS = sorted(set(FILTERS) - {"scaleoffset"})
DTYPES = ["u1", "<u2", ">u2", "<i4", ">i4", "<u8", "<f4", ">f8", "<f2", "<c8", "?"]
CHUNKS = [(1, 1, 6, 10), (2, 3, 6, 10), (5, 7, 6, 10), (1, 4, 4, 4), (3, 2, 1, 10)]


def values(shape: tuple[int, ...], dtype: str, seed: int = 1) -> np.ndarray:
    """Compressible, and different everywhere."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(3.0, shape) + np.arange(shape[-1])
    return counts.astype(dtype)


def write(path: Path, data: np.ndarray, **options: object) -> Path:
    with h5py.File(path, "w", userblock_size=options.pop("userblock_size", 0)) as file:
        file.create_dataset("odd", data=np.arange(3, dtype="u1"))  # later data start unaligned
        file.create_dataset("group/data", data=data, **options)
    return path


def indices(n: int) -> st.SearchStrategy[object]:
    bound = st.none() | st.integers(-n - 2, n + 2)
    step = st.none() | st.integers(1, n + 1) | st.integers(-n - 1, -1)
    return st.integers(-n, n - 1) | st.builds(slice, bound, bound, step)


KEYS = st.one_of(
    st.tuples(*(indices(n) for n in SHAPE)),
    indices(SHAPE[0]),
    st.tuples(indices(SHAPE[0]), st.just(Ellipsis), indices(SHAPE[-1])),
    st.just(Ellipsis),
)


class TestParity:
    @settings(
        max_examples=350, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(
        dtype=st.sampled_from(DTYPES),
        chunks=st.sampled_from(CHUNKS),
        name=st.sampled_from(LOSSLESS),
        keys=st.lists(KEYS, min_size=1, max_size=4),
    )
    def test_any_key_of_any_dataset(
        self, tmp_path: Path, dtype: str, chunks: tuple[int, ...], name: str, keys: list[object]
    ) -> None:
        data = values(SHAPE, dtype)
        path = write(tmp_path / "a.h5", data, chunks=chunks, **FILTERS[name])
        array = Hdf5Array(path, "group/data")
        assert (array.shape, array.chunks) == (SHAPE, chunks)
        assert array.dtype == np.dtype(dtype).newbyteorder("=")
        for key in keys:
            got = array[key]
            assert got.dtype == array.dtype
            np.testing.assert_array_equal(got, data[key])
        array.close()

    @pytest.mark.parametrize("name", FILTERS)
    @pytest.mark.parametrize("dtype", ["<u2", ">i4"])
    @pytest.mark.parametrize("chunks", CHUNKS)
    def test_blocks(self, tmp_path: Path, name: str, dtype: str, chunks: tuple[int, ...]) -> None:
        data = values(SHAPE, dtype)
        path = write(tmp_path / "a.h5", data, chunks=chunks, **FILTERS[name])
        array = Hdf5Array(path, "group/data")
        got = array.read_block(slice(1, 4), slice(2, 7))
        np.testing.assert_array_equal(got, data[1:4, 2:7].reshape(-1, 6, 10))
        assert isinstance(array._source, ThroughHdf5 if name in NOT_HERE else ViaChunks)

    @settings(
        max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(dtype=st.sampled_from(DTYPES), keys=st.lists(KEYS, min_size=1, max_size=4))
    def test_contiguous(self, tmp_path: Path, dtype: str, keys: list[object]) -> None:
        data = values(SHAPE, dtype)
        array = Hdf5Array(write(tmp_path / "a.h5", data), "group/data")
        for key in keys:
            np.testing.assert_array_equal(array[key], data[key])
        assert isinstance(array._source, Mapped)
        array._source._view = None  # as where mapping fails
        for key in keys:
            np.testing.assert_array_equal(array[key], data[key])

    @pytest.mark.parametrize("shape", [(9, 11), (4, 5, 6), (2, 3, 4, 5, 6), (0, 3, 4), (13,)])
    @pytest.mark.parametrize("chunked", [False, True])
    def test_other_ranks(self, tmp_path: Path, shape: tuple[int, ...], chunked: bool) -> None:
        data = values(shape, "<u2")
        chunks = tuple(max(1, n // 2) for n in shape) if chunked else None
        options = {"chunks": chunks, "compression": "gzip"} if chunked else {}
        if 0 in shape and chunked:
            options["maxshape"] = (None, *shape[1:])
        array = Hdf5Array(write(tmp_path / "a.h5", data, **options), "group/data")
        np.testing.assert_array_equal(np.asarray(array), data)
        assert len(array) == shape[0]
        assert (array.ndim, array.size, array.nbytes) == (len(shape), data.size, data.nbytes)

    @pytest.mark.parametrize("chunked", [False, True])
    @pytest.mark.parametrize("userblock_size", [512, 4096])
    def test_userblock(self, tmp_path: Path, chunked: bool, userblock_size: int) -> None:
        data = values(SHAPE, "<u2")
        options = {"chunks": (1, 7, 6, 10), "compression": "lzf"} if chunked else {}
        path = write(tmp_path / "a.h5", data, userblock_size=userblock_size, **options)
        array = Hdf5Array(path, "group/data")
        np.testing.assert_array_equal(array[1:3], data[1:3])
        assert isinstance(array._source, ViaChunks if chunked else Mapped)

    @pytest.mark.parametrize("libver", ["earliest", "v110", "latest"])
    @pytest.mark.parametrize("maxshape", [None, (None, 7, 6, 10), (None, None, 6, 10)])
    def test_every_kind_of_chunk_index(
        self, tmp_path: Path, libver: str, maxshape: tuple[int | None, ...] | None
    ) -> None:
        data = values(SHAPE, "<u2")
        with h5py.File(tmp_path / "a.h5", "w", libver=libver) as file:
            for k, chunks in enumerate([(1, 2, 6, 10), SHAPE]):
                file.create_dataset(f"f{k}", data=data, chunks=chunks, maxshape=maxshape)
                file.create_dataset(
                    f"c{k}", data=data, chunks=chunks, maxshape=maxshape, compression="lzf"
                )
        for name in ("f0", "f1", "c0", "c1"):
            array = Hdf5Array(tmp_path / "a.h5", name)
            np.testing.assert_array_equal(array[...], data)
            assert isinstance(array._source, ViaChunks)

    def test_frames(self, tmp_path: Path) -> None:
        data = values((11, 6, 10), "<u2")
        path = write(tmp_path / "a.h5", data, chunks=(4, 6, 10), **FILTERS["bitshuffle-lz4"])
        array = Hdf5Array(path, "group/data")
        np.testing.assert_array_equal(array.read_frames(3, 9), data[3:9])
        np.testing.assert_array_equal(array.read_frames(3, 99), data[3:])
        with pytest.raises(ShapeError, match="3 axes"):
            array.read_block(slice(0, 1), slice(0, 1))

    @pytest.mark.parametrize("name", ["none", "gzip", "blosc2", "contiguous"])
    def test_out(self, tmp_path: Path, name: str) -> None:
        data = values(SHAPE, ">u2")
        options = {} if name == "contiguous" else {"chunks": (1, 4, 6, 10), **FILTERS[name]}
        array = Hdf5Array(write(tmp_path / "a.h5", data, **options), "group/data")
        out = np.empty((6, 6, 10), np.uint16)
        got = array.read_block(slice(1, 3), slice(2, 5), out)
        assert np.shares_memory(got, out)
        np.testing.assert_array_equal(out, data[1:3, 2:5].reshape(-1, 6, 10))
        for bad in (out[1:], out.astype("u4"), np.empty((6, 6, 20), "u2")[:, :, ::2]):
            with pytest.raises(ShapeError, match="contiguous"):
                array.read_block(slice(1, 3), slice(2, 5), bad)

    def test_contiguous_blocks_are_not_copied(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["data"] = values(SHAPE, "<u2")
        array = Hdf5Array(tmp_path / "a.h5", "data")
        one, two = (array.read_block(slice(1, 3), slice(None)) for _ in range(2))
        assert np.shares_memory(one, two)
        assert not one.flags.writeable
        array.close()
        assert one.sum() == two.sum()


class TestUnusual:
    @pytest.mark.parametrize("fill", [None, 7])
    @pytest.mark.parametrize("when", ["ifset", "never", "alloc"])
    @pytest.mark.parametrize("dtype", ["<u2", ">f4"])
    def test_unwritten_chunks(
        self, tmp_path: Path, fill: int | None, when: str, dtype: str
    ) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            made = file.create_dataset(
                "data", SHAPE, dtype, chunks=(1, 2, 6, 10), fillvalue=fill, fill_time=when
            )
            made[2, 3] = 5
            made[4, 6, 1:3] = 6
        with h5py.File(tmp_path / "a.h5") as file:
            want = file["data"][...]
        array = Hdf5Array(tmp_path / "a.h5", "data")
        np.testing.assert_array_equal(array[...], want)
        assert isinstance(array._source, ViaChunks)
        assert len(array._source._index) == 2

    def test_nothing_written(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("contiguous", SHAPE, "u2", fillvalue=3)
            file.create_dataset("chunked", SHAPE, "u2", chunks=True, fillvalue=3)
        for name in ("contiguous", "chunked"):
            assert (Hdf5Array(tmp_path / "a.h5", name)[1:3] == 3).all()

    def test_absurd_sizes_are_lazy(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("b", (1 << 20,) * 3, "u2", chunks=(1, 1024, 1024))
            file.create_dataset("c", (1 << 20,) * 3, "u2")
        for name in ("b", "c"):
            array = Hdf5Array(tmp_path / "a.h5", name)
            assert array.nbytes == 1 << 61
            assert array[5, 7, -1] == 0
            assert array.read_frames(9, 9).shape == (0, 1 << 20, 1 << 20)

    @pytest.mark.parametrize("name", ["gzip-shuffle-fletcher", "lzf-shuffle", "bitshuffle-lz4"])
    def test_filters_skipped_for_one_chunk(self, tmp_path: Path, name: str) -> None:
        data = values((2, 2, 6, 10), "<u2")
        path = write(tmp_path / "a.h5", data, chunks=(1, 1, 6, 10), **FILTERS[name])
        with h5py.File(path, "r+") as file:
            made = file["group/data"]
            everything = (1 << made.id.get_create_plist().get_nfilters()) - 1
            made.id.write_direct_chunk((0, 1, 0, 0), data[0, 1].tobytes(), everything)
        array = Hdf5Array(path, "group/data")
        np.testing.assert_array_equal(array[...], data)
        assert isinstance(array._source, ViaChunks)

    def test_one_of_two_filters_skipped(self, tmp_path: Path) -> None:
        data = values((2, 2, 6, 10), "<u2")
        path = write(
            tmp_path / "a.h5", data, chunks=(1, 1, 6, 10), shuffle=True, compression="gzip"
        )
        with h5py.File(path, "r+") as file:
            packed = zlib.compress(data[1, 0].tobytes())
            file["group/data"].id.write_direct_chunk((1, 0, 0, 0), packed, 0b01)
        np.testing.assert_array_equal(Hdf5Array(path, "group/data")[...], data)

    def test_two_compressors_go_through_hdf5(self, tmp_path: Path) -> None:
        data = values(SHAPE, "<u2")
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((1, 7, 6, 10))
        plist.set_deflate(1)
        plist.set_filter(32004, h5py.h5z.FLAG_OPTIONAL, (0,))
        with h5py.File(tmp_path / "a.h5", "w") as file:
            space = h5py.h5s.create_simple(SHAPE)
            made = h5py.h5d.create(file.id, b"data", h5py.h5t.STD_U16LE, space, plist)
            h5py.Dataset(made)[...] = data
        np.testing.assert_array_equal(Hdf5Array(tmp_path / "a.h5", "data")[...], data)

    def test_types_that_are_not_stored_as_numpy_has_them(self, tmp_path: Path) -> None:
        twelve = h5py.h5t.STD_U16LE.copy()
        twelve.set_precision(12)
        data = values(SHAPE, "<u2")
        with h5py.File(tmp_path / "a.h5", "w") as file:
            space = h5py.h5s.create_simple(SHAPE)
            made = h5py.h5d.create(file.id, b"data", twelve, space)
            h5py.Dataset(made)[...] = data
        array = Hdf5Array(tmp_path / "a.h5", "data")
        np.testing.assert_array_equal(array[...], data)
        assert isinstance(array._source, ThroughHdf5)

    def test_compound_values(self, tmp_path: Path) -> None:
        data = np.zeros(4, [("qx", ">f4"), ("n", "<i2")])
        data["qx"], data["n"] = [1, 2, 3, 4], [5, 6, 7, 8]
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["data"] = data
        got = Hdf5Array(tmp_path / "a.h5", "data")[1:]
        np.testing.assert_array_equal(got["qx"], [2, 3, 4])
        assert got.dtype == np.dtype([("qx", "=f4"), ("n", "=i2")])

    def test_ragged_values_are_refused(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("data", (3,), h5py.vlen_dtype("f8"))
            file["nothing"] = h5py.Empty("f4")
        for name in ("data", "nothing"):
            with pytest.raises(FormatError, match="not an array of numbers"):
                Hdf5Array(tmp_path / "a.h5", name)

    def test_a_few_values_of_many_chunks_need_no_index(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(array_module, "_MANY_CHUNKS", 10)
        monkeypatch.setattr(array_module, "_FEW_CHUNKS", 4)
        data = values(SHAPE, "<u2")
        path = write(tmp_path / "a.h5", data, chunks=(1, 1, 6, 10))
        array = Hdf5Array(path, "group/data")
        np.testing.assert_array_equal(array[2, 3], data[2, 3])
        assert array._source is None
        np.testing.assert_array_equal(array[2:5], data[2:5])
        assert isinstance(array._source, ViaChunks)

    @pytest.mark.parametrize("key", [5, (0, 7), (0,) * 5, (..., ...), None, "a", [1, 2], True, 1.0])
    def test_bad_keys(self, tmp_path: Path, key: object) -> None:
        array = Hdf5Array(write(tmp_path / "a.h5", values(SHAPE, "u1")), "group/data")
        with pytest.raises(IndexError):
            array[key]


class TestSharing:
    @pytest.mark.parametrize("name", ["bitshuffle-lz4", "gzip-shuffle-fletcher", "blosc2", "zstd"])
    def test_threads(self, tmp_path: Path, name: str) -> None:
        data = values((16, 16, 12, 8), "<u2")
        path = write(tmp_path / "a.h5", data, chunks=(1, 3, 12, 8), **FILTERS[name])
        array = Hdf5Array(path, "group/data")

        def one(k: int) -> bool:
            rx, ry = slice(k % 16, k % 16 + 2), slice(k % 5, k % 5 + 9)
            want = data[rx, ry].reshape(-1, 12, 8)
            return np.array_equal(array.read_block(rx, ry), want)

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(one, range(400)))

    @pytest.mark.parametrize("chunks", [None, (1, 7, 6, 10)])
    def test_pickle(
        self, tmp_path: Path, chunks: tuple[int, ...] | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = values(SHAPE, "<u2")
        path = write(tmp_path / "a.h5", data, chunks=chunks)
        monkeypatch.chdir(tmp_path)
        array = Hdf5Array("a.h5", "group/data")
        array[1]
        monkeypatch.chdir("/")
        again = pickle.loads(pickle.dumps(array))
        np.testing.assert_array_equal(again[2], data[2])
        assert again.path == str(path)
        assert "group/data" in repr(again)

    def test_close_and_read_again(self, tmp_path: Path) -> None:
        data = values(SHAPE, "<u2")
        for name in ("gzip", "blosc2"):
            path = write(tmp_path / f"{name}.h5", data, chunks=(1, 7, 6, 10), **FILTERS[name])
            array = Hdf5Array(path, "group/data")
            for _ in range(2):
                np.testing.assert_array_equal(array[3], data[3])
                array.close()
            with h5py.File(path, "r+"):
                pass

    def test_a_replaced_file_is_noticed(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.h5", values(SHAPE, "<u2"))
        array = Hdf5Array(path, "group/data")
        write(path, values((2, 3), "<u2"))
        with pytest.raises(CorruptFile, match="replaced"):
            array[0]


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS")
def test_an_address_space_limit_does_not_stop_contiguous_data(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = file.create_dataset("data", (64, 64, 512, 512), "u2")  # 2 GiB, sparse
        made[63, 62] = 9
    code = f"""
        import resource
        import numpy as np
        from py4DSTEM.io.hdf5 import Hdf5Array
        array = Hdf5Array({str(tmp_path / "a.h5")!r}, "data")
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (512 << 20),) * 2)
        block = array.read_block(slice(63, 64), slice(60, 64))
        assert block.sum(axis=(1, 2)).tolist() == [0, 0, 9 * 512 * 512, 0]
        assert array[60:, ::2, 5, ::100].sum() == 9 * 6
        assert array._source._view is None
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)


class TestDamage:
    @pytest.mark.parametrize("name", sorted({*LOSSLESS} - {"none", "shuffle", "bitshuffle"}))
    def test_a_cut_chunk(self, tmp_path: Path, name: str) -> None:
        path = write(tmp_path / "a.h5", values(SHAPE, "<u2"), chunks=SHAPE, **FILTERS[name])
        with h5py.File(path, "r+") as file:
            made = file["group/data"]
            _, stored = made.id.read_direct_chunk((0, 0, 0, 0))
            made.id.write_direct_chunk((0, 0, 0, 0), stored[: len(stored) // 2])
        array = Hdf5Array(path, "group/data")
        with pytest.raises(CorruptFile) as caught:
            array[...]
        assert str(path) in str(caught.value)
        if name not in NOT_HERE:
            assert "chunk (0, 0, 0, 0) is damaged" in str(caught.value)
            assert caught.value.offset is not None

    def test_a_wrong_checksum(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.h5", values(SHAPE, "<u2"), chunks=SHAPE, fletcher32=True)
        with h5py.File(path, "r+") as file:
            made = file["group/data"]
            _, stored = made.id.read_direct_chunk((0, 0, 0, 0))
            made.id.write_direct_chunk((0, 0, 0, 0), bytes([stored[0] ^ 1]) + stored[1:])
        with pytest.raises(CorruptFile, match="checksum"):
            Hdf5Array(path, "group/data")[0]

    def test_a_truncated_file(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.h5", values(SHAPE, "<u2"), chunks=(1, 7, 6, 10))
        array = Hdf5Array(path, "group/data")
        array[0]
        path.write_bytes(path.read_bytes()[:9000])
        with pytest.raises(CorruptFile, match="shorter"):
            array[...]

    def test_a_chunk_beyond_the_end(self, tmp_path: Path) -> None:
        """The address of a chunk in the B-tree is replaced by one far away."""
        path = write(tmp_path / "a.h5", values(SHAPE, "<u2"), chunks=SHAPE)
        with h5py.File(path) as file:
            offset = file["group/data"].id.get_chunk_info(0).byte_offset
        content = path.read_bytes()
        wrong = content.replace(offset.to_bytes(8, "little"), (1 << 40).to_bytes(8, "little"))
        assert wrong != content
        path.write_bytes(wrong)
        with pytest.raises(CorruptFile, match="beyond the end"):
            Hdf5Array(path, "group/data")[...]

    def test_contiguous_values_beyond_the_end(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.h5", values(SHAPE, "<u2"))
        with h5py.File(path) as file:
            offset, size = file["group/data"].id.get_offset(), file["group/data"].nbytes
        place = [v.to_bytes(8, "little") for v in (offset, size, 1 << 40)]
        content = path.read_bytes()
        wrong = content.replace(place[0] + place[1], place[2] + place[1])
        assert wrong != content
        path.write_bytes(wrong)
        with pytest.raises(CorruptFile):
            Hdf5Array(path, "group/data")[...]
        layout = Layout(str(path), "data", (4, 5), np.dtype("u2"))
        with pytest.raises(CorruptFile, match="beyond the end"):
            Mapped(layout, len(content) - 39)


class TestPipeline:
    def decode(self, filters: list[Filter], source: bytes, nbytes: int) -> np.ndarray:
        out = np.empty(nbytes, np.uint8)
        data = np.frombuffer(source, np.uint8).copy()
        Pipeline(filters, nbytes).decode(data, 0, out, Scratch())
        return out

    @pytest.mark.parametrize("extra", [-1, 1, 10**6])
    def test_a_deflate_bomb_stops_at_the_chunk_size(self, extra: int) -> None:
        with pytest.raises(DecodeError, match="size of the chunk"):
            self.decode([Filter(1, (1,))], zlib.compress(bytes(1000 + extra)), 1000)

    def test_unknown_filters_are_not_supported(self) -> None:
        assert not Pipeline([Filter(4, ())], 8).supported
        assert not Pipeline([Filter(2, ())], 8).supported
        assert not Pipeline([Filter(32008, (0, 4, 2, 0, 9))], 8).supported
        assert not Pipeline([Filter(32008, ())], 8).supported
        assert Pipeline([Filter(4, ())], 8).decodes(1)

    @pytest.mark.parametrize(
        ("filt", "source"),
        [
            (Filter(32008, (0, 4, 2, 0, 2)), bytes(11)),
            (Filter(32008, (0, 4, 2, 0, 2)), bytes(7) + b"\x10" + bytes(4)),
            (Filter(32008, (0, 4, 2, 0, 2)), bytes(7) + b"\x10\0\0\0\x10\xff\xff\xff\xff"),
            (Filter(32008, (0, 4, 2, 0, 0)), bytes(15)),
            (Filter(32008, (0, 4, 3, 0, 0)), bytes(16)),
            (Filter(32004, ()), bytes(7) + b"\x10\0\0\0\0" + bytes(9)),
            (Filter(32004, ()), bytes(7) + b"\x10\0\0\0\x10\xff\xff\xff\xff"),
            (Filter(32001, (2, 2, 2)), bytes(16)),
            (Filter(3, ()), bytes(3)),
        ],
    )
    def test_impossible_headers(self, filt: Filter, source: bytes) -> None:
        with pytest.raises(DecodeError):
            self.decode([filt], source, 16)

    @pytest.mark.parametrize("size", [0, 1, 2, 719, 720, 721, 300_001])
    @pytest.mark.parametrize("value", [0, 255, None])
    def test_fletcher32_is_that_of_hdf5(self, tmp_path: Path, size: int, value: int | None) -> None:
        rng = np.random.default_rng(size)
        random = rng.integers(0, 256, size, dtype=np.uint8)
        data = random if value is None else np.full(size, value, np.uint8)
        if size == 0:
            assert fletcher32(data) == 0
            return
        with h5py.File(tmp_path / "a.h5", "w") as file:
            made = file.create_dataset("data", data=data, chunks=(size,), fletcher32=True)
            _, stored = made.id.read_direct_chunk((0,))
        assert fletcher32(data) == int.from_bytes(stored[-4:], "little")


FUZZ = """
    import sys
    import h5py
    import numpy as np
    from py4DSTEM.io.hdf5.codecs import DecodeError, Pipeline, Scratch, filters_of

    rng = np.random.default_rng(int(sys.argv[2]))
    with h5py.File(sys.argv[1]) as file:
        cases = []
        for dataset in file.values():
            _, stored = dataset.id.read_direct_chunk((0, 0, 0, 0))
            want = dataset[...].reshape(-1).view(np.uint8)
            cases.append((filters_of(dataset), np.frombuffer(stored, np.uint8), want))
    scratch, refused = Scratch(), 0
    for filters, stored, want in cases:
        guarded = np.full(want.size + 128, 0xA5, np.uint8)
        for k in range(int(sys.argv[3])):
            bad = stored.copy()
            for _ in range(rng.integers(1, 4)):
                at = rng.integers(0, 24 if k % 2 else bad.size)
                bad[min(at, bad.size - 1)] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(256)])
            if k % 5 == 0:
                bad = bad[: rng.integers(0, bad.size)].copy()
            try:
                Pipeline(filters, want.size).decode(bad, 0, guarded[64:-64], scratch)
            except DecodeError:
                refused += 1
            assert (guarded[:64] == 0xA5).all() and (guarded[-64:] == 0xA5).all()
    assert refused
"""


def test_random_damage_never_crashes(tmp_path: Path) -> None:
    """In a process of its own: a crash of a library would end it."""
    data = values((2, 8, 24, 24), "<u2")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in sorted(set(FILTERS) - NOT_HERE - {"none"}):
            file.create_dataset(name, data=data, chunks=data.shape, **FILTERS[name])
    command = [sys.executable, "-c", textwrap.dedent(FUZZ), str(tmp_path / "a.h5"), "3", "250"]
    subprocess.run(command, check=True, timeout=120)
