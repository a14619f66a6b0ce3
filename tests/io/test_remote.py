"""Scans behind a URL: only what is needed is fetched; what fails says so."""

import http.server
import re
import threading
from functools import partial

import h5py
import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import RunOptions
from py4DSTEM.errors import (
    DependencyMissing,
    FileMissing,
    FormatError,
    ParameterError,
    UnknownFormat,
)
from py4DSTEM.io.remote import RemoteHdf5, is_url, remote_fingerprint

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")

SCAN = np.random.default_rng(5).integers(0, 900, (6, 5, 40, 30), dtype=np.uint16)


class Ranged(http.server.SimpleHTTPRequestHandler):
    """Files with range requests; counts the bytes that it sends."""

    sent = 0

    def log_message(self, *what):
        pass

    def do_GET(self):
        path = self.translate_path(self.path)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        try:
            with open(path, "rb") as file:
                whole = file.read()
        except OSError:
            self.send_error(404)
            return
        first = int(asked[1]) if asked else 0
        last = min(int(asked[2]), len(whole) - 1) if asked and asked[2] else len(whole) - 1
        body = whole[first : last + 1]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(whole)}")
        self.end_headers()
        type(self).sent += len(body)
        self.wfile.write(body)


@pytest.fixture
def served(tmp_path):
    """A folder, and its address."""
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Ranged, directory=str(tmp_path))
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield tmp_path, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def write_hdf5(path, rows=6):
    with h5py.File(path, "w") as file:
        data = np.resize(SCAN, (rows, *SCAN.shape[1:]))
        made = file.create_dataset("entry/scan", data=data, chunks=(1, 5, 40, 30), compression=1)
        made.attrs["operator"] = "someone"
        file["away"] = h5py.ExternalLink("/etc/other.h5", "data")
    return data


def test_a_scan_in_hdf5_is_read_in_parts(served):
    folder, address = served
    data = write_hdf5(folder / "scan.h5", rows=3000)
    Ranged.sent = 0
    cube = py4DSTEM.read(f"{address}/scan.h5")
    assert np.array_equal(cube.data[2, 1:3], data[2, 1:3])
    assert Ranged.sent < (folder / "scan.h5").stat().st_size / 2
    assert cube.metadata.source == f"{address}/scan.h5"
    assert cube.metadata.original["operator"] == "someone"
    assert "calibrations in the file are not read" in " ".join(cube.metadata.notes)


def test_operations_give_the_bits_of_the_file_on_disk(served):
    folder, address = served
    write_hdf5(folder / "scan.h5")
    here, there = (
        py4DSTEM.mean_pattern(py4DSTEM.read(path), options=RunOptions(workers=3))
        for path in (folder / "scan.h5", f"{address}/scan.h5")
    )
    assert here.data.tobytes() == there.data.tobytes()
    assert there.history.source["path"] == f"{address}/scan.h5"


def test_a_scan_in_zarr(served):
    zarr = pytest.importorskip("zarr")
    folder, address = served
    root = zarr.open_group(folder / "scan.zarr", mode="w")
    made = root.create_array("scan", shape=SCAN.shape, chunks=(1, 5, 40, 30), dtype="u2")
    made[:] = SCAN
    cube = py4DSTEM.read(f"{address}/scan.zarr", dataset="scan")
    Ranged.sent = 0
    assert np.array_equal(cube.data[4, 2:5], SCAN[4, 2:5])
    assert Ranged.sent < SCAN.nbytes / 3
    assert np.array_equal(py4DSTEM.read(f"{address}/scan.zarr/scan").data[...], SCAN)


def calibrated():
    """A scan with pixel sizes, a plane of origins and a history."""
    cube = py4DSTEM.DataCube(SCAN).with_calibration(
        R_pixel_size=2.0, R_pixel_units="nm", Q_pixel_size=0.02, Q_pixel_units="A^-1",
        rotation_rad=0.3, energy_eV=2e5, origin_px=(19.5, 14.25),
    )  # fmt: skip
    return cube.crop(R=((1, 6), (0, 5)))


def test_a_file_of_ours_comes_with_its_calibration_and_history(served):
    folder, address = served
    py4DSTEM.save(folder / "scan.h5", calibrated())
    here, there = (py4DSTEM.read(path) for path in (folder / "scan.h5", f"{address}/scan.h5"))
    assert there.calibration == here.calibration == calibrated().calibration
    assert there.calibration.R[0].step == 2.0 and there.calibration.energy_eV == 2e5
    assert there.history.steps == here.history.steps and len(there.history.steps) > 0
    assert not there.metadata.notes
    assert (there.metadata.source, there.metadata.format) == (f"{address}/scan.h5", "emd")
    assert isinstance(there.data, RemoteHdf5)
    assert np.array_equal(there.data[3, 1:], here.data[3, 1:])
    binned = py4DSTEM.read(f"{address}/scan.h5", bin_Q=2)
    assert binned.calibration.Q[0].step == pytest.approx(0.04)


def test_results_of_ours_come_as_they_are(served):
    folder, address = served
    cube = calibrated()
    image = py4DSTEM.virtual_image(cube, py4DSTEM.Disk(8))
    columns = {"rx": [0, 2, 2], "ry": [1, 0, 1], "qx": [3.5, 4, 5], "qy": [9, 8, 7.25]}
    peaks = py4DSTEM.BraggPeaks.from_columns({**columns, "intensity": [1, 2, 3]}, (3, 2))
    py4DSTEM.save(folder / "image.h5", image)
    py4DSTEM.save(folder / "all.h5", {"scan": cube, "image": image, "peaks": peaks})
    for where in (folder, address):
        again = py4DSTEM.read(f"{where}/image.h5")
        assert np.array_equal(again.data, image.data)
        assert again.calibration == image.calibration
        assert again.history.steps == image.history.steps
    found = py4DSTEM.read(f"{address}/all.h5")
    assert list(found) == ["scan", "image", "peaks"]
    assert found["peaks"].points.tobytes() == peaks.points.tobytes()
    assert type(found["peaks"]) is type(peaks)
    only = py4DSTEM.read(f"{address}/all.h5", dataset="image")
    assert np.array_equal(only.data, image.data)
    with pytest.raises(ParameterError, match="'scan', 'image', 'peaks'"):
        py4DSTEM.read(f"{address}/all.h5", dataset="picture")


@pytest.mark.parametrize("how", ["link", "virtual"])
def test_a_file_of_ours_that_leads_elsewhere_is_refused(served, how, monkeypatch):
    folder, address = served
    monkeypatch.chdir(folder)  # where a virtual data set would look
    write_hdf5(folder / "secret.h5")
    py4DSTEM.save(folder / "scan.h5", calibrated())
    with h5py.File(folder / "scan.h5", "r+") as file:
        group = next(n for n in file.values() if isinstance(n, h5py.Group))
        if how == "link":
            group["more"] = h5py.ExternalLink("secret.h5", "entry/scan")
        else:
            layout = h5py.VirtualLayout(SCAN.shape, "u2")
            layout[...] = h5py.VirtualSource("secret.h5", "entry/scan", SCAN.shape)
            group.create_virtual_dataset("more", layout)
    with pytest.raises(FormatError, match="its values lie in other files"):
        py4DSTEM.read(f"{address}/scan.h5")


def test_zarr_of_ours_comes_with_its_pixel_sizes(served):
    pytest.importorskip("zarr")
    folder, address = served
    py4DSTEM.save(folder / "scan.zarr", calibrated())
    here, there = (py4DSTEM.read(path) for path in (folder / "scan.zarr", f"{address}/scan.zarr"))
    assert there.calibration == here.calibration
    assert there.calibration.Q[1].unit == here.calibration.Q[1].unit != "px"
    assert np.array_equal(there.data[2, 3], here.data[2, 3])


def test_what_is_sent_to_another_process_opens_the_url_again(served):
    copy = pytest.importorskip("copy")
    folder, address = served
    write_hdf5(folder / "scan.h5")
    again = copy.deepcopy(py4DSTEM.read(f"{address}/scan.h5").data)
    assert np.array_equal(again[1, 1], SCAN[1, 1])


def test_a_changed_file_has_another_fingerprint(served):
    folder, address = served
    write_hdf5(folder / "scan.h5")
    before = remote_fingerprint(f"{address}/scan.h5")
    assert remote_fingerprint(f"{address}/scan.h5") == before
    write_hdf5(folder / "scan.h5", rows=7)
    assert remote_fingerprint(f"{address}/scan.h5") != before


def test_what_is_not_there_or_not_for_parts(served):
    folder, address = served
    (folder / "scan.mib").write_bytes(b"MQ1," + bytes(1000))
    with h5py.File(folder / "empty.h5", "w") as file:
        file["note"] = 1
    write_hdf5(folder / "scan.h5")
    with pytest.raises(FileMissing, match=r"no\.h5"):
        py4DSTEM.read(f"{address}/no.h5")
    with pytest.raises(UnknownFormat, match="Copy it to a disk"):
        py4DSTEM.read(f"{address}/scan.mib")
    with pytest.raises(UnknownFormat, match="without a 4D"):
        py4DSTEM.read(f"{address}/empty.h5")
    with pytest.raises(ParameterError, match="'entry/scan'"):
        py4DSTEM.read(f"{address}/scan.h5", dataset="away")


def test_a_file_that_is_cut_off_or_gone(served):
    folder, address = served
    write_hdf5(folder / "scan.h5", rows=40)
    cube = py4DSTEM.read(f"{address}/scan.h5")
    cube.data.close()
    whole = (folder / "scan.h5").read_bytes()
    (folder / "scan.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match=r"scan\.h5"):
        _ = cube.data[30]
    with pytest.raises(FormatError, match=r"scan\.h5.*cannot be read"):
        py4DSTEM.read(f"{address}/scan.h5")
    with pytest.raises(FormatError, match="Is the server there"):
        py4DSTEM.read("http://127.0.0.1:9/scan.h5")


def test_protocols_that_are_unknown_or_not_installed(monkeypatch):
    with pytest.raises(ParameterError, match="nosuch"):
        py4DSTEM.read("nosuch://bucket/scan.h5")
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(DependencyMissing, match=r"py4DSTEM\[remote\]"):
        py4DSTEM.read("https://data.org/scan.h5")


def test_paths_are_no_urls():
    assert not any(map(is_url, ["a.h5", "/a/b.h5", "C:\\a.h5", "C:/a.h5", None]))
    assert is_url("s3://bucket/a.h5")
