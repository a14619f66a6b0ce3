"""The command line where other programs stumble: optimised, without a home, in odd places."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from clikit import Shell, make_sparse, small_scan

import py4DSTEM

posix = pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")


def check_image(path: Path) -> None:
    image = np.load(path)
    weights = 1 + np.arange(30).reshape(5, 6)
    assert np.allclose(image / weights, image[0, 0])


WORK = """
import sys
from py4DSTEM.cli import main
name = sys.argv[1]
for args in (["info", "--", name], ["view", "-o", "image.npy", "--", name],
             ["convert", "--", name, "copy.h5"], ["verify", "--checksums", "copy.h5"]):
    code = main(args)
    if code:
        sys.exit(code)
"""


def work(shell: Shell, folder: Path, name: str = "scan.npy", **options: object) -> None:
    """Info, an image and a conversion there and back, in one process."""
    done = shell(name, code=WORK, cwd=folder, **options)
    assert done.code == 0 and "Traceback" not in done.err, done
    check_image(folder / "image.npy")
    assert np.array_equal(py4DSTEM.read(folder / "copy.h5").data[...], small_scan())


def test_optimised(shell: Shell, scan: Path) -> None:
    work(shell, scan.parent, python=["-OO"])


@pytest.mark.parametrize(
    "env",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    ],
    ids=["C", "ascii"],
)
def test_locale_without_unicode(env: dict[str, str], shell: Shell, tmp_path: Path) -> None:
    """Characters that the terminal lacks are escaped, and never end the work."""
    name = "Größe in Å.npy"
    np.save(tmp_path / name, small_scan())
    done = shell("info", name, env=env)
    assert done.code == 0, done
    assert "5 x 6 x 24 x 28" in done.out
    done = shell("info", f"not {name}", env=env)
    assert done.code == 2 and "Did you mean" in done.err and "Traceback" not in done.err


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12", ":nonsense"])
def test_time_zone(zone: str, shell: Shell, scan: Path) -> None:
    done = shell("view", scan.name, "-o", "image.h5", env={"TZ": zone})
    assert done.code == 0, done
    assert py4DSTEM.read(scan.with_name("image.h5")).shape == (5, 6)


NAMES = [
    "with space.npy",
    "日本語 µ é.npy",
    "-dash.npy",
    "--json.npy",
    "a'b\"c;$(x)&.npy",
    "x" * 240,
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_odd_names(name: str, shell: Shell, tmp_path: Path) -> None:
    with open(tmp_path / name, "wb") as file:
        np.save(file, small_scan())
    done = shell("convert", "--", name, "copy.h5")
    assert done.code == 0, done
    assert py4DSTEM.read(tmp_path / "copy.h5").shape == (5, 6, 24, 28)


def test_long_paths(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["deeper and deeper into it"] * 20)
    folder.mkdir(parents=True)
    assert len(str(folder)) > 500
    np.save(folder / "scan.npy", small_scan())
    work(shell, folder)


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no text")
def test_names_that_are_no_text(shell: Shell, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.npy")
    try:
        np.save(tmp_path / name, small_scan())
    except OSError as error:
        pytest.skip(str(error))
    done = shell("convert", name, "copy.h5")
    assert done.code == 0, done
    assert shell("info", name, "copy.h5").code == 0
    assert py4DSTEM.read(tmp_path / "copy.h5").shape == (5, 6, 24, 28)


@posix
def test_symbolic_links(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    np.save(tmp_path / "store" / "real.npy", small_scan())
    os.symlink("store/real.npy", tmp_path / "scan.npy")
    os.symlink("nowhere.npy", tmp_path / "dangling.npy")
    os.symlink("loop.npy", tmp_path / "loop.npy")
    work(shell, tmp_path)
    for name in ("dangling.npy", "loop.npy"):
        done = shell("info", name)
        assert done.code == 2 and name in done.err and "Traceback" not in done.err
    into = shell("convert", "scan.npy", "store/real.npy", "--force")
    assert into.code == 2 and "input itself" in into.err


# ---- homes and installations that cannot be written to -------------------------------------------
@posix
@pytest.mark.parametrize("home", [None, "/dev/null/none"], ids=["no home", "home is no folder"])
def test_no_home(home: str | None, shell: Shell, scan: Path) -> None:
    hidden = {"HOME": home, "XDG_CACHE_HOME": None, "XDG_CONFIG_HOME": None, "MPLCONFIGDIR": None}
    done = shell("view", scan.name, "-o", "image.png", env=hidden)
    assert done.code == 0, done


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package in which nothing can be cached beside the source.

    A file in the place of each ``__pycache__`` stops everybody, also the superuser.
    """
    root = tmp_path_factory.mktemp("sealed")
    source = Path(py4DSTEM.__file__).parent
    shutil.copytree(source, root / "py4DSTEM", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [root / "py4DSTEM", *(root / "py4DSTEM").rglob("*/")]:
        if folder.is_dir():
            (folder / "__pycache__").write_text("")
    return root


@posix
@pytest.mark.parametrize("temporary", [True, False], ids=["temporary cache", "no cache"])
def test_read_only_installation(
    temporary: bool, sealed: Path, shell: Shell, scan: Path, tmp_path: Path
) -> None:
    """Compiled code goes to a private folder for temporary files, or is not kept at all."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    if not temporary:
        (folder / f"py4dstem-kernels-{os.getuid()}").write_text("in the way")
    env = {"PYTHONPATH": str(sealed), "HOME": "/dev/null/none", "XDG_CACHE_HOME": None,
           "TMPDIR": str(folder), "NUMBA_CACHE_DIR": None}  # fmt: skip
    code = (
        "import sys, numpy as np, py4DSTEM\n"
        f"assert py4DSTEM.__file__.startswith({str(sealed)!r}), py4DSTEM.__file__\n"
        "from py4DSTEM.cli import main\n"
        "sys.exit(main(['view', 'scan.npy', '--max', '-o', 'image.npy']))"
    )
    done = shell(code=code, env=env)
    assert done.code == 0, done
    assert np.array_equal(np.load(tmp_path / "image.npy"), small_scan().max((0, 1)))
    kept = list(folder.rglob("*.nbc"))
    assert bool(kept) == temporary
    if temporary:
        assert (folder / f"py4dstem-kernels-{os.getuid()}").stat().st_mode & 0o077 == 0


# ---- more data than memory -----------------------------------------------------------------------
@posix
def test_a_scan_four_times_the_memory(shell: Shell, tmp_path: Path) -> None:
    """6 GiB of zeros and two counts, seen whole within 1.5 GiB of address space."""
    import resource

    path = make_sparse(tmp_path / "large.npy", (192, 256, 128, 128), "<f8")
    patterns = np.lib.format.open_memmap(path, "r+")
    patterns[100, 200, 30, 40] = 7
    patterns[191, 255, 127, 127] = 9
    del patterns

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (3 * 1024**3 // 2, 3 * 1024**3 // 2))

    code = (
        "import resource, py4DSTEM\n"
        "from py4DSTEM import CenterOfMass, Disk, MaxPattern, MeanPattern, StdPattern\n"
        "from py4DSTEM import VirtualImages\n"
        "cube = py4DSTEM.read('large.npy')\n"
        "steps = [VirtualImages(detectors={'bf': Disk(5, center=(30, 40))}), CenterOfMass(),\n"
        "         MeanPattern(), MaxPattern(), StdPattern()]\n"
        "bf, com, mean, high, std = py4DSTEM.run(steps, cube)\n"
        "assert bf['bf'].data[100, 200] == 7 and bf.data.sum() == 7\n"
        "assert tuple(com.data[:, 191, 255]) == (127, 127)\n"
        "assert high.data[30, 40] == 7 and high.data[127, 127] == 9\n"
        "assert abs(mean.data[127, 127] * 192 * 256 - 9) < 1e-9 and std.data[127, 127] > 0\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)\n"
    )
    env = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    done = shell(code=code, env=env, preexec_fn=limit)
    assert done.code == 0, done.err
    assert int(done.out) < 1536


@posix
@pytest.mark.parametrize("kind", ["npy", "raw"])
def test_one_pattern_of_a_hundred_gigabytes(kind: str, shell: Shell, tmp_path: Path) -> None:
    path = make_sparse(tmp_path / "huge.npy", (1000, 800, 256, 256), "<u2")
    options = ""
    if kind == "raw":
        path.rename(tmp_path / "huge.raw")
        options = (
            ", layout=py4DSTEM.RawLayout(dtype='<u2', Q_shape=(256, 256), offset_bytes=128)"
            ", scan_shape=(1000, 800)"
        )
    code = (
        "import resource, py4DSTEM\n"
        "used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "before = (py4DSTEM.read, py4DSTEM.DataCube, used())[-1]\n"
        f"cube = py4DSTEM.read('huge.{kind}'{options})\n"
        "assert cube.shape == (1000, 800, 256, 256) and not cube[999, 799].data.any()\n"
        "repr(cube)\n"
        "print(used() - before)\n"
    )
    done = shell(code=code)
    assert done.code == 0, done.err
    assert int(done.out) < 50  # MB
