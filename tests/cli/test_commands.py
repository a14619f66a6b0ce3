"""What every command does, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from clikit import Outcome, small_scan

import py4DSTEM

Cli = Callable[..., Outcome]


def validated(name: str, text: str) -> Any:
    """The JSON object of an output, checked against the schema that is shipped."""
    jsonschema = pytest.importorskip("jsonschema")
    value = json.loads(text)
    schema = json.loads((files("py4DSTEM.cli") / "schemas" / f"{name}.json").read_text("utf-8"))
    jsonschema.validators.validator_for(schema).check_schema(schema)
    jsonschema.validate(value, schema)
    assert value["schema"] == 1
    return value


# ---- info ----------------------------------------------------------------------------------------
def test_info_says_what_a_file_holds(cli: Cli, scan: Path) -> None:
    done = cli("info", scan)
    assert done.code == 0 and not done.err
    assert "5 x 6 x 24 x 28  uint16" in done.out
    assert "memory: " in done.out


def test_info_json(cli: Cli, scan: Path) -> None:
    done = cli("info", scan, "--json", "--deep", "--tags")
    facts = validated("info", done.out)["files"][0]["objects"]["scan"]
    assert facts["shape"] == [5, 6, 24, 28] and facts["bytes"] == small_scan().nbytes
    assert facts["center pattern"]["sum"] == float(small_scan()[2, 3].sum())
    assert facts["memory"]["load_bytes"] == small_scan().nbytes and facts["memory"]["fits"]


def test_info_goes_on_after_a_bad_file(cli: Cli, scan: Path, tmp_path: Path) -> None:
    done = cli("info", "--json", tmp_path / "none.npy", scan)
    assert done.code == 1 and "no such file" in done.err
    first, second = validated("info", done.out)["files"]
    assert first["code"] == 2 and "objects" in second


def test_info_never_reads_the_data(cli: Cli, sparse_scan: Path) -> None:
    done = cli("info", sparse_scan, "--json")
    assert validated("info", done.out)["files"][0]["objects"]["large"]["bytes"] == 8 * 1024**3


# ---- verify --------------------------------------------------------------------------------------
def test_verify(cli: Cli, scan: Path, tmp_path: Path) -> None:
    assert cli("verify", scan) == (0, f"{scan}: structure is sound\n", "")
    done = cli("verify", scan, "--checksums", "--json")
    assert validated("verify", done.out)["files"][0]["patterns_read"] == 30
    broken = tmp_path / "broken.npy"
    broken.write_bytes(scan.read_bytes()[:-1000])
    done = cli("verify", "--json", scan, broken, tmp_path / "none.npy")
    assert done.code == 3
    codes = [f["code"] for f in validated("verify", done.out)["files"]]
    assert codes == [0, 3, 2]
    assert ": damaged: " in cli("verify", broken).out
    assert ": cannot be checked: " in cli("verify", tmp_path / "none.npy").out


def test_verify_finds_a_wrong_bit_of_a_saved_file(cli: Cli, scan: Path, tmp_path: Path) -> None:
    good = tmp_path / "good.h5"
    py4DSTEM.save(good, py4DSTEM.read(scan))
    content = bytearray(good.read_bytes())
    content[_place_of_the_largest_chunk(good)] ^= 1
    bad = tmp_path / "bad.h5"
    bad.write_bytes(content)
    assert cli("verify", bad).code == 0
    done = cli("verify", "--checksums", good, bad)
    assert done.code == 3
    assert f"{good}: whole (30 patterns read)" in done.out and f"{bad}: damaged" in done.out


def _place_of_the_largest_chunk(path: Path) -> int:
    found: list[tuple[int, int]] = []

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim == 4:
            info = item.id.get_chunk_info(0)
            found.append((info.size, info.byte_offset))

    with h5py.File(path) as file:
        file.visititems(look)
    size, offset = max(found)
    return offset + size // 2


# ---- formats -------------------------------------------------------------------------------------
def test_formats(cli: Cli) -> None:
    rows = {r["name"]: r for r in validated("formats", cli("formats", "--json").out)["formats"]}
    assert {"npy", "mib", "emd", "dm", "png"} <= set(rows)
    assert rows["emd"]["reads"] and rows["emd"]["writes"] and not rows["png"]["reads"]
    text = cli("formats").out
    assert all(name in text for name in rows)


def test_formats_of_the_library() -> None:
    rows = py4DSTEM.formats()
    assert len({r.name for r in rows}) == len(rows)
    assert all(r.extensions and r.title and (r.reads or r.writes) for r in rows)
    assert all(r.available or r.install for r in rows)


WRITABLE = [s for r in py4DSTEM.formats() if r.writes and r.available for s in r.extensions]


@pytest.mark.parametrize("suffix", [s for s in WRITABLE if s != ".gz"])
def test_what_the_table_says_can_be_written_can(suffix: str, cli: Cli, scan: Path) -> None:
    out = scan.with_name(f"image{suffix}")
    done = cli("view", scan, "-o", out)
    assert (done.code, done.out) == (0, f"{out}\n"), done.err
    assert out.exists()


def test_formats_says_what_to_install(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from py4DSTEM.io.format import format_named

    zspy = type(format_named("zspy"))
    monkeypatch.setattr(zspy, "requires", ("a_package_that_is_not_there",))
    row = next(r for r in py4DSTEM.formats() if r.name == "zspy")
    assert not row.available and row.install == '"py4DSTEM[zarr]"'
    assert 'pip install "py4DSTEM[zarr]"' in cli("formats").out


# ---- convert -------------------------------------------------------------------------------------
def test_convert_keeps_every_value(cli: Cli, scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "scan.h5"
    assert cli("convert", scan, out) == (0, f"{out}\n", "")
    assert np.array_equal(py4DSTEM.read(out).data[...], small_scan())


def test_convert_shapes_and_stores(cli: Cli, scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "part.h5"
    done = cli(
        "convert", scan, out, "--crop", 1, 5, 0, 6, "--crop-detector", 2, 22, 4, 28, "--bin", 2,
        "--bin-scan", 2, "--dtype", "uint32", "--chunks", 1, 3, 10, 12, "--compress", "zstd:3",
    )  # fmt: skip
    assert done.code == 0, done.err
    cube = py4DSTEM.read(out)
    part = small_scan()[1:5, :, 2:22, 4:28].astype(np.uint32)
    truth = part.reshape(2, 2, 3, 2, 10, 2, 12, 2).sum((1, 3, 5, 7))
    assert cube.dtype == np.uint32 and np.array_equal(cube.data[...], truth)
    with h5py.File(out) as file:
        found: list[Any] = []
        file.visititems(lambda n, d: found.append(d.chunks) if getattr(d, "ndim", 0) == 4 else None)
        assert found == [(1, 3, 10, 12)]


def test_convert_several_into_a_folder(cli: Cli, scan: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.npy"
    np.save(other, small_scan()[:2])
    bad = tmp_path / "bad.npy"
    bad.write_bytes(scan.read_bytes()[:500])
    folder = tmp_path / "out"
    folder.mkdir()
    done = cli("convert", scan, bad, other, folder, "--to", "h5")
    assert done.code == 1 and "bad.npy" in done.err and "1 of 3" in done.err
    assert sorted(p.name for p in folder.iterdir()) == ["other.h5", "scan.h5"]
    again = cli("convert", scan, other, folder)
    assert again.code == 1 and "--force" in again.err
    assert cli("convert", scan, other, folder, "--force").code == 0


def test_convert_says_when_two_would_be_one(cli: Cli, scan: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    twin = tmp_path / "sub" / scan.name
    twin.write_bytes(scan.read_bytes())
    done = cli("convert", scan, twin, tmp_path)
    assert done.code == 2 and "same output" in done.err


# ---- view ----------------------------------------------------------------------------------------
VIEWS = {
    "bf": [],
    "adf": ["--adf", "6", "9.5"],
    "disk": ["--disk", "3", "--center", "11", "15"],
    "mean": ["--mean"],
    "max": ["--max"],
}


@pytest.mark.parametrize("name", VIEWS)
def test_view(name: str, cli: Cli, scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "image.npy"
    done = cli("view", scan, "-o", out, *VIEWS[name])
    assert (done.code, done.out) == (0, f"{out}\n")
    image = np.load(out)
    if name in ("mean", "max"):
        data = small_scan().reshape(-1, 24, 28)
        assert np.array_equal(image, data.mean(0) if name == "mean" else data.max(0))
    else:
        weights = 1 + np.arange(30).reshape(5, 6)
        assert np.allclose(image / weights, image[0, 0], rtol=1e-12)
        assert ("beam found at" in done.err) == (name != "disk")


def test_view_with_a_mask_and_physical_radii(cli: Cli, scan: Path, tmp_path: Path) -> None:
    mask = np.random.default_rng(0).random((24, 28))
    np.save(tmp_path / "mask.npy", mask)
    out = tmp_path / "image.npy"
    assert cli("view", scan, "--mask", tmp_path / "mask.npy", "-o", out).code == 0
    assert np.allclose(np.load(out), (small_scan() * mask).sum((2, 3)), rtol=1e-12)

    cube = py4DSTEM.read(scan).with_calibration(
        Q_pixel_size=0.5, Q_pixel_units="mrad", energy_eV=2e5, origin_px=(11, 15)
    )
    py4DSTEM.save(tmp_path / "calibrated.h5", cube)
    done = cli(
        "view", tmp_path / "calibrated.h5", "--disk", 2, "--units", "mrad", "-o", out, "--force"
    )
    assert done.code == 0 and "beam found" not in done.err
    truth = cube.virtual_image(py4DSTEM.Disk(4)).data
    assert np.allclose(np.load(out), truth, rtol=1e-9)


def test_view_doubts_a_beam_that_may_be_none(cli: Cli, tmp_path: Path) -> None:
    disks = [py4DSTEM.Disk(4.0, center=c).weights((32, 40), py4DSTEM.Calibration())
             for c in ((15, 18), (16, 31))]  # fmt: skip
    for name, second, doubted in (("clear", 30, False), ("doubtful", 95, True)):
        pattern = 100 * disks[0] + second * disks[1] + 1
        np.save(tmp_path / f"{name}.npy", np.tile(pattern.astype(np.uint8), (2, 3, 1, 1)))
        done = cli("view", tmp_path / f"{name}.npy", "--bf", "-o", tmp_path / f"{name}.png")
        assert done.code == 0 and "beam found at (15" in done.err
        assert ("warning: this may not be the beam" in done.err) == doubted
    assert "another spot, at (16, 31) px" in done.err and "--center" in done.err
    given = ("--disk", 4, "--center", 15, 18, "-o", tmp_path / "given.png")
    assert "beam" not in cli("view", tmp_path / "doubtful.npy", *given).err


def test_view_of_an_empty_scan(cli: Cli, tmp_path: Path) -> None:
    np.save(tmp_path / "zeros.npy", np.zeros((2, 3, 16, 16), np.uint8))
    done = cli("view", tmp_path / "zeros.npy", "-o", tmp_path / "image.npy")
    assert done.code == 0 and "middle of the detector" in done.err
    assert np.array_equal(np.load(tmp_path / "image.npy"), np.zeros((2, 3)))


# ---- run -----------------------------------------------------------------------------------------
def test_run_lists_and_explains(cli: Cli) -> None:
    listed = validated("run-list", cli("run", "--json").out)["operations"]
    text = cli("run").out
    for kind in listed:
        assert kind in text
        told = cli("run", kind, "--help")
        assert told.code == 0 and f"py4dstem run {kind}" in told.out
        for name in listed[kind]["properties"]:
            assert name.replace("_", "-") in told.out


def test_run_takes_parameters(cli: Cli, scan: Path, tmp_path: Path) -> None:
    detectors = {
        "bf": {"kind": "disk", "radius": 3},
        "adf": {"kind": "annulus", "inner": 5, "outer": 9},
    }
    out = tmp_path / "images.h5"
    args = ["run", "virtual-images", scan, "--center", 11, 15, "--no-follow-origin", "-o", out]
    done = cli(*args, "--detectors", json.dumps(detectors), "--json")
    assert done.code == 0, done.err
    said = validated("run", done.out)
    assert said["parameters"]["follow_origin"] is False and said["out"] == str(out)
    cube = py4DSTEM.read(scan).with_calibration(origin_px=(11, 15))
    truth = cube.virtual_images({"bf": py4DSTEM.Disk(3), "adf": py4DSTEM.Annulus(5, 9)})
    assert np.allclose(py4DSTEM.read(out).data, truth.data)

    recipe = tmp_path / "detectors.toml"
    recipe.write_text('[detectors.bf]\nkind = "disk"\nradius = 3\n')
    assert cli(*args, "--params", recipe, "--force").code == 0
    assert np.allclose(py4DSTEM.read(out).data[0], truth.data[0])


def test_run_without_output_prints(cli: Cli, scan: Path) -> None:
    done = cli("run", "quality", scan)
    assert done.code == 0 and "quality" in done.out and "hot pixels" in done.out
    done = cli("run", "quality", scan, "-o", scan.with_name("quality.txt"))
    assert done.code == 0 and "hot pixels" in scan.with_name("quality.txt").read_text("utf-8")


def test_run_finds_the_center(cli: Cli, scan: Path) -> None:
    done = cli("run", "mean-radial-profile", scan)
    assert done.code == 2 and "--find-center" in done.err
    assert cli("run", "mean-radial-profile", scan, "--find-center").code == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["mean-patern", "x"], "did you mean 'mean-pattern'"),
        (["virtual-images", "x", "--detector", "1"], "did you mean '--detectors'"),
        (["mean-pattern", "x", "y"], "'y' is too many"),
    ],
)
def test_run_explains_mistakes(args: list[str], words: str, cli: Cli) -> None:
    done = cli("run", *args)
    assert done.code == 2 and words in done.err and not done.out


# ---- demo, doctor, completion --------------------------------------------------------------------
@pytest.mark.parametrize("passed", [True, False])
def test_demo_reports_its_checks(
    passed: bool, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from py4DSTEM import demo

    check = demo.Check("bf: mean counts", 10.0, 10.5 if passed else float("nan"), 1.0, passed)
    result = demo.DemoResult((tmp_path / "report.html",), (check,), 1.5)
    monkeypatch.setattr(demo, "run_demo", lambda folder, seed: result)
    done = cli("demo", "-o", tmp_path / "demo", "--json")
    assert done.code == (0 if passed else 1)
    assert validated("demo", done.out)["checks"][0]["passed"] is passed
    text = cli("demo").out
    assert ("ok  " if passed else "FAIL") in text and "report.html" in text


def test_doctor_tells_nothing_personal(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import platform

    home = tmp_path / "ann.onymous"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USER", "annonymous")
    monkeypatch.setenv("LOGNAME", "annonymous")
    monkeypatch.setattr(platform, "node", lambda: "lab-microscope-7")
    monkeypatch.setenv("OMP_NUM_THREADS", f"set in {home}/x by annonymous on lab-microscope-7")
    done = cli("doctor", "--json", "--bundle", tmp_path / "report.json")
    report = validated("doctor", done.out)
    assert report == json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert report["system"]["BLAS threads"] == "set in ~/x by <user> on <host>"
    assert str(home) not in done.out
    assert report["kernels"]["compiled"] is True and "zstd" in report["hdf5"]["filters"]
    assert cli("doctor", "--bundle", tmp_path / "report.json").code == 2


def test_completion_knows_every_command_and_option(cli: Cli) -> None:
    from py4DSTEM.cli.arguments import COMMANDS

    for name in ("bash", "zsh", "fish"):
        script = cli("completion", name).out
        assert all(command in script for command in COMMANDS)
        assert "checksums" in script and "mean-pattern" in script


# ---- talk ----------------------------------------------------------------------------------------
def test_quiet_verbose_and_log(cli: Cli, scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "image.npy"
    assert "note: beam found" in cli("view", scan, "-o", out).err
    log = tmp_path / "log.txt"
    silent = cli("view", scan, "-o", out, "--force", "-q", "--log-file", log)
    assert (silent.code, silent.err) == (0, "")
    assert "note: beam found" in log.read_text("utf-8")
    failed = cli("view", scan, "-o", out, "-q", "--log-file", log)
    assert failed.code == 2 and "exists already" in failed.err
    assert "Traceback" in log.read_text("utf-8")
    assert "Traceback" in cli("view", scan, "-o", out, "-v").err


def test_warnings_are_notes(cli: Cli, scan: Path) -> None:
    stream = scan.with_name("stream.npy")
    np.save(stream, small_scan().reshape(30, 24, 28))
    assert cli("info", stream, "--scan-shape", 5, 6).code == 0
    done = cli("info", stream, "--scan-shape", 5, 5)
    assert "Traceback" not in done.err and "UserWarning" not in done.err


def test_progress_only_where_somebody_watches(cli: Cli, scan: Path, tmp_path: Path) -> None:
    done = cli("view", scan, "--mean", "-o", tmp_path / "a.npy")
    assert done.err == ""
    plain = cli("view", scan, "--mean", "-o", tmp_path / "b.npy", "--progress", "plain")
    assert "mean-pattern: 1/1 tiles" in plain.err


# ---- real files ----------------------------------------------------------------------------------
def test_an_image_of_every_real_scan(cli: Cli, shared_data: Path, tmp_path: Path) -> None:
    """From the shell: bright field, and the sum of each pattern by a mask of ones."""
    listed = json.loads((shared_data / "real" / "manifest.json").read_text("utf-8"))
    made = 0
    for entry in listed:
        path = shared_data / "real" / entry["file"]
        for name, cube in scans_of(path).items():
            choice = () if name is None else ("--dataset", name)
            out, mask = tmp_path / "image.npy", tmp_path / "ones.npy"
            done = cli("view", path, *choice, "--bf", "-o", out, "--force")
            assert done.code == 0, (path, done.err)
            assert np.load(out).shape == cube.R_shape
            np.save(mask, np.ones(cube.Q_shape))
            assert cli("view", path, *choice, "--mask", mask, "-o", out, "--force").code == 0
            truth = np.asarray(cube.data[...], np.float64).sum((2, 3))
            assert np.allclose(np.load(out), truth, rtol=1e-9, atol=1e-9, equal_nan=True), path
            made += 1
    assert made >= 30


@pytest.mark.filterwarnings("ignore")
def scans_of(path: Path) -> dict[str | None, Any]:
    """Every scan of a file; the name None where it is the only object."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = py4DSTEM.read(path)
        except (py4DSTEM.Py4DSTEMError, OSError):
            return {}
    objects = value if isinstance(value, dict) else {None: value}
    return {name: v for name, v in objects.items() if isinstance(v, py4DSTEM.DataCube)}
