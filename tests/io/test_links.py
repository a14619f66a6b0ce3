"""Files that lead to other files: whatever the layout, nothing outside their folder is read."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import py4DSTEM
from py4DSTEM.errors import FormatError

SHAPE = (2, 3, 4, 5)
SECRET = np.arange(120, dtype=np.uint16).reshape(SHAPE) + 1000

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="symbolic links")


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """A folder with data that somebody sends, and a private one beside it."""
    sent, private = tmp_path / "sent", tmp_path / "private"
    sent.mkdir()
    private.mkdir()
    with h5py.File(private / "secret.h5", "w") as file:
        file["data"] = SECRET
    (private / "secret.raw").write_bytes(SECRET.tobytes())
    return sent, private


# ---- ways out ------------------------------------------------------------------------------------
Way = Callable[[h5py.Group, str, Path], None]


def external_link(group: h5py.Group, name: str, private: Path) -> None:
    group[name] = h5py.ExternalLink(str(private / "secret.h5"), "/data")


def relative_link(group: h5py.Group, name: str, private: Path) -> None:
    group[name] = h5py.ExternalLink("../private/secret.h5", "/data")


def link_through_a_symlink(group: h5py.Group, name: str, private: Path) -> None:
    near = Path(group.file.filename).with_name("near.h5")
    near.symlink_to(private / "secret.h5")
    group[name] = h5py.ExternalLink("near.h5", "/data")


def link_through_a_folder(group: h5py.Group, name: str, private: Path) -> None:
    Path(group.file.filename).with_name("folder").symlink_to(private)
    group[name] = h5py.ExternalLink("folder/secret.h5", "/data")


def raw_storage(group: h5py.Group, name: str, private: Path) -> None:
    external = [(str(private / "secret.raw"), 0, SECRET.nbytes)]
    group.create_dataset(name, SHAPE, "u2", external=external)


def virtual_dataset(group: h5py.Group, name: str, private: Path) -> None:
    layout = h5py.VirtualLayout(SHAPE, "u2")
    layout[...] = h5py.VirtualSource(str(private / "secret.h5"), "data", SHAPE)
    group.create_virtual_dataset(name, layout)


def relative_virtual_dataset(group: h5py.Group, name: str, private: Path) -> None:
    layout = h5py.VirtualLayout(SHAPE, "u2")
    layout[...] = h5py.VirtualSource("../private/secret.h5", "data", SHAPE)
    group.create_virtual_dataset(name, layout)


def soft_link_to_a_link(group: h5py.Group, name: str, private: Path) -> None:
    group.file["elsewhere"] = h5py.ExternalLink(str(private / "secret.h5"), "/data")
    group[name] = h5py.SoftLink("/elsewhere")


WAYS: list[Way] = [
    external_link,
    relative_link,
    link_through_a_symlink,
    link_through_a_folder,
    raw_storage,
    virtual_dataset,
    relative_virtual_dataset,
    soft_link_to_a_link,
]


# ---- layouts -------------------------------------------------------------------------------------
def generic(path: Path) -> str:
    with h5py.File(path, "w") as file:
        file["scan"] = np.zeros(SHAPE, "u2")
    return "/scan"


def native(path: Path) -> str:
    py4DSTEM.save(path, py4DSTEM.DataCube(np.zeros(SHAPE, "u2")))
    return four_dimensional(path)


def hyperspy(path: Path) -> str:
    py4DSTEM.save(path.with_suffix(".hspy"), py4DSTEM.DataCube(np.zeros(SHAPE, "u2")))
    path.with_suffix(".hspy").rename(path)
    return four_dimensional(path)


def berkeley(path: Path) -> str:
    with h5py.File(path, "w") as file:
        file.attrs.update({"version_major": 0, "version_minor": 2})
        group = file.create_group("data/cube")
        group.attrs["emd_group_type"] = 1
        group["data"] = np.zeros(SHAPE, "u2")
        for k, n in enumerate(SHAPE, start=1):
            dim = group.create_dataset(f"dim{k}", data=np.arange(n, dtype=float))
            dim.attrs.update({"name": f"d{k}", "units": "[n_m]"})
    return "/data/cube/data"


LAYOUTS: list[Callable[[Path], str]] = [generic, native, hyperspy, berkeley]
ALONE = (native, berkeley)
"""Layouts that keep everything in one file."""


def four_dimensional(path: Path) -> str:
    found: list[str] = []

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim == 4:
            found.append(item.name)

    with h5py.File(path) as file:
        file.visititems(look)
    return found[0]


def redirected(
    layout: Callable[[Path], str], way: Way, sent: Path, private: Path
) -> tuple[Path, str]:
    """A file of that layout whose scan is somewhere else, and the name of the scan in it."""
    path = sent / "sent.h5"
    name = layout(path)
    with h5py.File(path, "r+") as file:
        parent, leaf = file[name].parent, name.rsplit("/", 1)[1]
        attributes = dict(file[name].attrs)
        del parent[leaf]
        way(parent, leaf, private)
        if way in (raw_storage, virtual_dataset, relative_virtual_dataset):
            parent[leaf].attrs.update(attributes)
    return path, name


def cubes(value: Any) -> list[Any]:
    objects = value.values() if isinstance(value, dict) else [value]
    return [v for v in objects if isinstance(v, py4DSTEM.DataCube)]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("way", WAYS, ids=lambda f: f.__name__)
def test_nothing_outside_is_read(
    layout: Callable[[Path], str], way: Way, places: tuple[Path, Path]
) -> None:
    sent, private = places
    path, name = redirected(layout, way, sent, private)
    with pytest.raises(FormatError) as caught:
        value = py4DSTEM.read(path)
        for cube in cubes(value):
            assert not np.array_equal(cube.data[...], SECRET), "it was read"
    said = str(caught.value)
    assert "sent.h5" in said
    assert "allow_external" in said
    # Those of one file only are read from elsewhere by the name of the dataset.
    alone: dict[str, Any] = {"format": "hdf5", "dataset": name} if layout in ALONE else {}
    (cube,) = cubes(py4DSTEM.read(path, allow_external=True, **alone))
    assert np.array_equal(cube.data[...], SECRET)


@pytest.mark.parametrize("layout", ["native", "berkeley"])
def test_images_outside_are_not_read(layout: str, places: tuple[Path, Path]) -> None:
    """Images are loaded at once, and not through the lazy array that scans are."""
    sent, private = places
    path = sent / "sent.h5"
    with h5py.File(private / "secret.h5", "r+") as file:
        file["image"] = SECRET[0, 0]
    if layout == "native":
        image = py4DSTEM.RealSlice(np.zeros((4, 5)), py4DSTEM.Calibration(), name="im")
        py4DSTEM.save(path, image)
        name = "im_root/im/data"
    else:
        name = "data/cube/data"
        berkeley(path)
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = h5py.ExternalLink("../private/secret.h5", "/image")
    with pytest.raises(FormatError, match="link to another file"):
        py4DSTEM.read(path)


def test_neighbours_are_read(places: tuple[Path, Path]) -> None:
    """Detectors write a master file and data files beside it: those belong together."""
    sent, _ = places
    with h5py.File(sent / "data_1.h5", "w") as file:
        file["data"] = SECRET
    with h5py.File(sent / "master.h5", "w") as file:
        file["scan"] = h5py.ExternalLink("data_1.h5", "/data")
    assert np.array_equal(py4DSTEM.read(sent / "master.h5").data[...], SECRET)


def test_a_symlink_to_the_file_itself_is_what_the_user_asked_for(
    places: tuple[Path, Path],
) -> None:
    sent, private = places
    with h5py.File(private / "scan.h5", "w") as file:
        file["scan"] = SECRET
    os.symlink(private / "scan.h5", sent / "scan.h5")
    assert np.array_equal(py4DSTEM.read(sent / "scan.h5").data[...], SECRET)


@pytest.mark.parametrize("name", ["../private/secret", "/etc/passwd"])
def test_descriptions_cannot_name_files_elsewhere(name: str, places: tuple[Path, Path]) -> None:
    """An EMPAD description names its data file, which must lie beside it."""
    sent, private = places
    (private / "secret.raw").write_bytes(bytes(4 * 130 * 128 * 4))
    (sent / "scan.xml").write_text(
        f'<?xml version="1.0"?><root><raw_file filename="{name}.raw"/>'
        '<scan_parameters mode="acquire"><scan_resolution_x>2</scan_resolution_x>'
        "<scan_resolution_y>2</scan_resolution_y></scan_parameters></root>"
    )
    with pytest.raises(FormatError):
        py4DSTEM.read(sent / "scan.xml")


def test_from_the_shell(places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    from py4DSTEM.cli import main

    sent, private = places
    path, _ = redirected(generic, external_link, sent, private)
    assert main(["info", str(path)]) != 0
    assert "allow_external" in capsys.readouterr().err
    assert main(["info", str(path), "--allow-external"]) == 0
    assert "2 x 3 x 4 x 5" in capsys.readouterr().out
