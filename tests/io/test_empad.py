"""EMPAD: raw and XML, scan shapes, calibration, damage."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import write_empad, write_empad_xml
from truth import assert_same_sums, readings

from py4DSTEM.errors import CorruptFile, FormatError, Py4DSTEMWarning, UnknownFormat
from py4DSTEM.io.format import Match, ReadOptions, Source
from py4DSTEM.io.formats.empad import FRAME_BYTES, Empad
from py4DSTEM.io.read import read_file
from py4DSTEM.testing.formats import check_file, survey_damage


def read(path: Path, **options: Any) -> Any:
    return read_file(path, ReadOptions(**options))


def some_frames(count: int) -> Any:
    return np.random.default_rng(3).normal(100, 20, (count, 128, 128)).astype(np.float32)


def a_scan(folder: Path, rows: int = 2, columns: int = 3, *, newer: bool = False) -> Any:
    raw = write_empad(folder / f"scan_x{columns}_y{rows}.raw", some_frames(rows * columns))
    return raw, write_empad_xml(raw, (rows, columns), newer=newer)


# ---- real files ----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["map4x4.xml", "scan_x4_y4.raw"])
def test_real_file_has_the_sums_of_the_reference_reader(shared_data: Path, name: str) -> None:
    cube = read(shared_data / "real" / "empad" / name)
    assert cube.shape == (4, 4, 128, 128)
    (reading,) = readings(shared_data, "empad/map4x4.xml")["rosettasciio"]
    assert_same_sums(cube.data, reading)
    check_file(shared_data / "real" / "empad" / name)


def test_real_metadata(shared_data: Path) -> None:
    cube = read(shared_data / "real" / "empad" / "map4x4.xml")
    m = cube.metadata
    assert (m.date, m.time, m.energy_eV) == ("2019-06-06", "13:30:00", 300e3)
    assert m.camera_length_mm == pytest.approx(722.5)
    assert m.original["xml"]["grid_measurements"]["bias_voltage"] == "150"
    assert cube.calibration.Q_pixel_units == "mrad"
    assert cube.calibration.Q_pixel_size == pytest.approx(0.42906574394463665)
    # full field of view 4.566 µm, of which 0.55 was scanned in 4 steps
    assert cube.calibration.R_pixel_size == pytest.approx(4.5663426505682195e4 * 0.55 / 4)


@pytest.mark.parametrize("name", ["map7x6.xml", "scan_x7_y6.raw"])
def test_constructed_scan_that_is_not_square(shared_data: Path, name: str) -> None:
    cube = read(shared_data / "real" / "constructed" / name)
    expected = np.load(shared_data / "real" / "constructed" / "expected.npz")["data"]
    data = np.asarray(cube.data)
    assert data.shape == (6, 7, 128, 128)
    np.testing.assert_allclose(data[:, :, 44:84, 40:88], expected * 0.37, rtol=1e-6)
    data[:, :, 44:84, 40:88] = 0
    assert not data.any()


def test_series_without_its_raw_file(shared_data: Path) -> None:
    with pytest.raises(CorruptFile, match=r"stack_images\.xml.*series_x10\.raw"):
        read(shared_data / "real" / "empad" / "stack_images.xml")


# ---- written files -------------------------------------------------------------------------------
@pytest.mark.parametrize("newer", [False, True])
@pytest.mark.parametrize("which", [0, 1])
def test_scan_with_xml(tmp_path: Path, which: int, newer: bool) -> None:
    cube = read(a_scan(tmp_path, newer=newer)[which])
    assert cube.shape == (2, 3, 128, 128)
    np.testing.assert_array_equal(np.asarray(cube.data).reshape(6, 128, 128), some_frames(6))
    assert cube.calibration.energy_eV == 200e3
    assert cube.calibration.Q_pixel_size == pytest.approx(0.5)
    assert cube.calibration.R_pixel_size == pytest.approx(600 * 0.5 / 3)
    assert cube.metadata.exposure_s == pytest.approx(1e-3)


def test_frames_are_views_of_the_file(tmp_path: Path) -> None:
    (signal,) = Empad().open(Source.of(a_scan(tmp_path)[0]), ReadOptions()).values()
    frames = signal.data.read_frames(1, 4)
    assert not frames.flags.owndata and frames.strides[0] == FRAME_BYTES


def test_series(tmp_path: Path) -> None:
    raw = write_empad(tmp_path / "series_x5.raw", some_frames(5))
    xml = write_empad_xml(raw, (1, 5))
    text = xml.read_text().replace("<type>scan", "<count>5</count><type>series")
    xml.write_text(text.replace("<pix_x>5</pix_x><pix_y>1</pix_y>", ""))
    assert read(xml).shape == (1, 5, 128, 128)


def test_raw_alone_with_a_telling_name(tmp_path: Path) -> None:
    raw = write_empad(tmp_path / "scan_x3_y2.raw", some_frames(6))
    cube = read(raw)
    assert cube.shape == (2, 3, 128, 128)
    assert any("no .xml" in note for note in cube.metadata.notes)


def test_raw_alone_that_is_square(tmp_path: Path) -> None:
    cube = read(write_empad(tmp_path / "a.raw", some_frames(4)))
    assert cube.shape == (2, 2, 128, 128)
    assert any("cut short cannot be recognised" in note for note in cube.metadata.notes)


def test_raw_alone_that_is_not_square_is_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(UnknownFormat):
        read(write_empad(tmp_path / "a.raw", some_frames(6)))
    options = ReadOptions(scan_shape=(2, 3))
    assert read_file(tmp_path / "a.raw", options, format="empad").shape == (2, 3, 128, 128)


def test_integers_of_the_same_size_are_not_empad(tmp_path: Path) -> None:
    path = tmp_path / "counts.raw"
    path.write_bytes(np.full(4 * FRAME_BYTES // 2, 3, "<u2").tobytes())
    assert Empad().sniff(Source.of(path)) is Match.NO


def test_other_xml_is_not_empad(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text("<root><something/></root>")
    assert Empad().sniff(Source.of(path)) is Match.NO


# ---- damage --------------------------------------------------------------------------------------
@pytest.mark.parametrize("described", [True, False])
def test_truncated_scan_is_never_a_smaller_one(tmp_path: Path, described: bool) -> None:
    raw, xml = a_scan(tmp_path, 4, 4)
    if not described:
        xml.unlink()
    content = raw.read_bytes()
    for count in (1, 4, 9, 15):
        for extra in (0, 1, 65536, FRAME_BYTES - 1):
            raw.write_bytes(content[: count * FRAME_BYTES + extra])
            with pytest.raises(CorruptFile, match="scan_x4_y4"):
                read(raw)
    with pytest.warns(Py4DSTEMWarning, match="no frame"):
        cube = read(raw, allow_truncated=True)
    assert cube.shape == (4, 4, 128, 128)
    assert cube.metadata.frames == 15


def test_more_frames_than_positions_are_noted(tmp_path: Path) -> None:
    raw, _ = a_scan(tmp_path)
    write_empad(raw, some_frames(8))
    with pytest.warns(Py4DSTEMWarning, match="2 extra frames"):
        assert read(raw).shape == (2, 3, 128, 128)


@pytest.mark.parametrize(
    "prolog",
    [
        '<!DOCTYPE root [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>',
        '<!DOCTYPE root SYSTEM "file:///etc/passwd">',
    ],
)
def test_document_types_are_refused(tmp_path: Path, prolog: str) -> None:
    xml = a_scan(tmp_path)[1]
    xml.write_text(prolog + xml.read_text())
    with pytest.raises(CorruptFile, match="entities"):
        read(xml)


def test_xml_that_is_cut_or_deep(tmp_path: Path) -> None:
    xml = a_scan(tmp_path)[1]
    text = xml.read_text()
    xml.write_text(text[:-30])
    with pytest.raises(CorruptFile, match="XML cannot be read"):
        read(xml)
    xml.write_text(text.replace("</root>", "<a>" * 100 + "</a>" * 100 + "</root>"))
    with pytest.raises(CorruptFile, match="nested too deeply"):
        read(xml)


def test_the_xml_cannot_point_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    raw, xml = a_scan(folder)
    raw.rename(tmp_path / raw.name)
    xml.write_text(xml.read_text().replace(raw.name, f"../{raw.name}"))
    with pytest.raises(CorruptFile, match="not beside it"):
        read(xml)


@pytest.mark.parametrize("value", ["0", "-3", "1e9", "99999999999999999999", "nan"])
def test_absurd_scan_sizes(tmp_path: Path, value: str) -> None:
    xml = a_scan(tmp_path)[1]
    xml.write_text(xml.read_text().replace("<pix_x>3<", f"<pix_x>{value}<"))
    assert read(xml).R_shape == (2, 3)  # the name of the raw file says it too
    xml.write_text(xml.read_text().replace(f"<pix_x>{value}<", "<pix_x>1000000<"))
    with pytest.raises(CorruptFile, match="frames are missing"):
        read(xml)


@pytest.mark.parametrize("which", [0, 1])
def test_damaged_copies(tmp_path: Path, which: int) -> None:
    path = a_scan(tmp_path)[which]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert survey_damage(path, count=32).failures == []


def test_errors_name_everything(tmp_path: Path) -> None:
    raw, _ = a_scan(tmp_path)
    raw.write_bytes(raw.read_bytes()[:-100])
    with pytest.raises(FormatError) as caught:
        read(raw)
    e = caught.value
    assert (e.format, e.offset) == ("empad", 5 * FRAME_BYTES)
    assert e.path and e.expected and e.got and e.hint
