"""Values as they look in a notebook.  Nothing here reads a lazy array, and every string that may
come from a file is escaped.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from py4DSTEM.core.axis import Axis
    from py4DSTEM.core.calibration import Calibration
    from py4DSTEM.core.cube import Cube
    from py4DSTEM.core.history import History
    from py4DSTEM.core.metadata import Metadata
    from py4DSTEM.core.points import PointTable
    from py4DSTEM.core.slices import Slice

__all__ = [
    "calibration_html",
    "calibration_state",
    "cube_html",
    "history_html",
    "metadata_html",
    "points_html",
    "readable_bytes",
    "slice_html",
    "thumbnail_png",
]

Rows = Iterable[tuple[str, str]]
THUMBNAIL_PX = 96
THUMBNAIL_BYTES = 40_000
_SAMPLED_PATTERNS = 16
_LONGEST = 300
_UNITS = {"A": "Å", "A^-1": "Å⁻¹", "nm^-1": "nm⁻¹", "um": "µm", "urad": "µrad", "deg": "°"}


# ---- what is shown -------------------------------------------------------------------------------
def cube_html(cube: Cube) -> str:
    """Name, axes, dtype, size, where the data are, calibration, history and notes."""
    rows = [
        ("shape", _shape(cube.shape, (*cube.calibration.R, *cube.calibration.Q))),
        ("data", f"{_text(cube.dtype)}, {readable_bytes(cube.nbytes)}, {_text(_where(cube.data))}"),
        *_source_rows(cube.metadata),
        ("calibration", _state(cube.calibration)),
        ("history", _steps(cube.history)),
    ]
    image, caption = _sampled_pattern(cube)
    return _card(type(cube).__name__, cube.name, rows, cube.metadata.notes, image, caption)


def slice_html(value: Slice) -> str:
    """Name, axes, range, calibration and history of an image or a stack, with a thumbnail."""
    rows = [
        ("shape", _shape(value.data.shape[-2:], value.axes)),
        *([("images", _text(", ".join(value.labels)))] if value.labels else []),
        ("data", f"{_text(value.dtype)}, {readable_bytes(value.data.nbytes)}"),
        ("values", _range(value.data, value.units)),
        ("calibration", _state(value.calibration)),
        ("history", _steps(value.history)),
    ]
    stack = value.data.ndim == 3
    first = value.data[0] if stack and len(value.data) else value.data
    caption = value.labels[0] if value.labels else ""
    reciprocal = all(axis.name.startswith("Q") for axis in value.axes)
    png = thumbnail_png(first, root=reciprocal) if first.ndim == 2 else None
    return _card(type(value).__name__, value.name, rows, (), png, caption)


def calibration_html(calibration: Calibration) -> str:
    """What is calibrated, and what is missing."""
    rows = [(name, _mark(value)) for name, value in calibration_state(calibration).items()]
    return _card("Calibration", "", rows)


def history_html(history: History) -> str:
    """The steps with their parameters, oldest first."""
    rows = [
        (
            f"{k}. {_text(step.kind)}",
            _text(", ".join(f"{n}={v!r}" for n, v in step.parameters.items())),
        )
        for k, step in enumerate(history.steps, start=1)
    ]
    return _card("History", "", rows or [("steps", "none")])


def metadata_html(metadata: Metadata) -> str:
    """The fields that the file fills, and how much more it says."""
    known = metadata.known()
    notes = known.pop("notes", ())
    rows = [(_text(name), _text(value)) for name, value in known.items()]
    if metadata.original:
        rows.append(("original", f"{_entries(metadata.original)} entries"))
    return _card("Metadata", metadata.title or "", rows, notes)


def points_html(points: PointTable) -> str:
    """How many points there are, and what each holds."""
    counts = points.counts
    spread = f"{counts.min()} … {counts.max()} per position" if counts.size else ""
    rows = [
        ("scan", _shape(points.shape, points.calibration.R)),
        ("points", f"{len(points)} ({spread})"),
        ("fields", _text(", ".join(points.dtype.names or ()))),
        ("calibration", _state(points.calibration)),
        ("history", _steps(points.history)),
    ]
    return _card(type(points).__name__, points.name, rows)


def calibration_state(calibration: Calibration) -> dict[str, str | None]:
    """One line per quantity; None where it is missing."""
    c = calibration
    origin = c.origin_px
    return {
        "scan step": _step(c.R),
        "detector pixel": _step(c.Q),
        "origin": None
        if origin is None
        else f"one per position {origin.shape[:2]}"
        if origin.ndim == 3
        else f"({origin[0]:.2f}, {origin[1]:.2f}) px",
        "ellipse": None
        if c.ellipse is None
        else f"a/b = {c.ellipse.a / c.ellipse.b:.4f} at {np.degrees(c.ellipse.theta_rad):.1f}°",
        "rotation": None if c.rotation_rad is None else f"{np.degrees(c.rotation_rad):.2f}°",
        "flip": None if c.flip is None else ("yes" if c.flip else "no"),
        "energy": None if c.energy_eV is None else f"{c.energy_eV / 1e3:g} keV",
        "convergence": None if c.semiangle_mrad is None else f"{c.semiangle_mrad:.3g} mrad",
        "probe radius": None if c.probe_radius_px is None else f"{c.probe_radius_px:.3g} px",
    }


def readable_bytes(count: int) -> str:
    """
    >>> readable_bytes(33_554_432)
    '33.6 MB'
    """
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


# ---- pieces --------------------------------------------------------------------------------------
def _text(value: object) -> str:
    """Escaped, on one line's length: a file may hold anything."""
    text = str(value)
    short = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return escape(short, quote=True)


def _unit(unit: str) -> str:
    return _UNITS.get(unit, unit)


def _shape(shape: Sequence[int], axes: Sequence[Axis]) -> str:
    parts = [
        f"{_text(axis.name)} {size}"
        + (f" × {axis.step:.4g} {_text(_unit(axis.unit))}" if axis.calibrated else "")
        for size, axis in zip(shape, axes, strict=True)
    ]
    return ", ".join(parts)


def _step(axes: tuple[Axis, Axis]) -> str | None:
    x, y = axes
    if not x.calibrated:
        return None
    if x.step == y.step:
        return f"{x.step:.4g} {_unit(x.unit)}"
    return f"{x.step:.4g} × {y.step:.4g} {_unit(x.unit)}"


def _where(data: object) -> str:
    """Whether using the data means reading it."""
    if isinstance(data, np.ndarray):
        return "memory-mapped" if _mapped(data) else "in memory"
    return f"lazy ({type(data).__module__.split('.')[0]}.{type(data).__name__})"


def _mapped(array: NDArray[Any]) -> bool:
    """Whether an array, or what it is a view of, is a file."""
    base: object = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        base = base.base
    return False


def _source_rows(metadata: Metadata) -> list[tuple[str, str]]:
    known = (("source", metadata.source), ("format", metadata.format), ("title", metadata.title))
    return [(name, _text(value)) for name, value in known if value]


def _range(data: NDArray[Any], units: str) -> str:
    kind = f" {_text(units)}" if units else ""
    if data.dtype.kind not in "buif" or data.size == 0:
        return "complex" + kind if data.dtype.kind == "c" else "none"
    finite = data[np.isfinite(data)]
    missing = data.size - finite.size
    note = f", {missing} undefined" if missing else ""
    return f"{finite.min():.4g} … {finite.max():.4g}{kind}{note}" if finite.size else "undefined"


def _mark(value: str | None) -> str:
    if value is None:
        return '<span style="opacity:.55">– missing</span>'
    return f'<span style="color:#2a8a3e">✓</span> {_text(value)}'


def _state(calibration: Calibration) -> str:
    items = calibration_state(calibration).items()
    known = [f"{name} {_text(value)}" for name, value in items if value is not None]
    missing = [name for name, value in items if value is None]
    done = '<span style="color:#2a8a3e">✓</span> ' + ", ".join(known) if known else ""
    rest = f'<span style="opacity:.55">missing: {", ".join(missing)}</span>' if missing else ""
    return "<br>".join(filter(None, (done, rest)))


def _steps(history: History) -> str:
    return " → ".join(_text(step.kind) for step in history.steps) or "none"


def _entries(tree: object) -> int:
    if not hasattr(tree, "values"):
        return 1
    return sum(_entries(value) for value in tree.values())


_CARD = (
    "display:inline-flex;gap:12px;font-size:13px;line-height:1.45;border:1px solid "
    "rgba(128,128,128,.4);border-radius:6px;padding:8px 12px;max-width:100%"
)
_NAME_CELL = (
    "text-align:left;font-weight:normal;opacity:.65;padding:0 10px 0 0;vertical-align:top;"
    "white-space:nowrap;background:none"
)


def _card(
    kind: str,
    name: str,
    rows: Rows,
    notes: Sequence[str] = (),
    png: bytes | None = None,
    caption: str = "",
) -> str:
    """Values in `rows` are HTML already; everything else is escaped here."""
    body = "".join(
        f'<tr style="background:none"><th style="{_NAME_CELL}">{label}</th>'
        f'<td style="text-align:left;background:none">{value}</td></tr>'
        for label, value in [*rows, *(("note", _text(note)) for note in notes[:8])]
    )
    title = f"<div><b>{_text(kind)}</b> {_text(name)}</div>"
    table = f'<table style="border:none;margin:2px 0 0">{body}</table>'
    return f'<div style="{_CARD}">{_figure(png, caption)}<div>{title}{table}</div></div>'


def _figure(png: bytes | None, caption: str) -> str:
    if png is None:
        return ""
    data = base64.b64encode(png).decode("ascii")
    text = f'<div style="opacity:.65;max-width:{THUMBNAIL_PX}px">{_text(caption)}</div>'
    return (
        f'<div><img alt="{_text(caption) or "thumbnail"}" width="{THUMBNAIL_PX}" '
        f'style="image-rendering:pixelated" src="data:image/png;base64,{data}">'
        f"{text if caption else ''}</div>"
    )


# ---- thumbnails ----------------------------------------------------------------------------------
def _sampled_pattern(cube: Cube) -> tuple[bytes | None, str]:
    """Mean of a few patterns, only where they are in memory already."""
    data = cube.data
    if not isinstance(data, np.ndarray) or _mapped(data) or data.size == 0:
        return None, ""
    nx, ny = cube.R_shape
    chosen = np.unique(np.linspace(0, nx * ny - 1, _SAMPLED_PATTERNS).astype(int))
    patterns = data[chosen // ny, chosen % ny]
    with np.errstate(invalid="ignore"):  # infinities of both signs become undefined
        mean = patterns.mean(axis=0, dtype=np.float64)
    return thumbnail_png(mean, root=True), f"mean of {len(chosen)} patterns"


def thumbnail_png(image: NDArray[Any], *, root: bool = False) -> bytes | None:
    """A gray PNG of at most 96 x 96 pixels and 40 kB; undefined pixels are blue.

    Parameters
    ----------
    image : (n0, n1) array
        Complex values are shown by their modulus.
    root : bool
        Take the square root first, as diffraction needs.

    Returns
    -------
    bytes or None
        None where there is nothing to show, or pillow is not installed.
    """
    if image.ndim != 2 or image.size == 0 or image.dtype.kind not in "buifc":
        return None
    try:
        from PIL import Image
    except ImportError:
        return None
    values = _reduced(np.abs(image) if image.dtype.kind == "c" else image)
    buffer = io.BytesIO()
    Image.fromarray(_gray(values, root)).save(buffer, "PNG", optimize=True)
    png = buffer.getvalue()
    return png if len(png) <= THUMBNAIL_BYTES else None


def _reduced(image: NDArray[Any]) -> NDArray[np.float64]:
    """Mean over square blocks, so that the longer side has at most 96 pixels."""
    k = -(-max(image.shape) // THUMBNAIL_PX)
    n0, n1 = max(image.shape[0] // k, 1), max(image.shape[1] // k, 1)
    k0, k1 = min(k, image.shape[0]), min(k, image.shape[1])
    blocks = image[: n0 * k0, : n1 * k1].astype(np.float64).reshape(n0, k0, n1, k1)
    with np.errstate(invalid="ignore"):  # infinities of both signs become undefined
        mean: NDArray[np.float64] = blocks.mean(axis=(1, 3))
    return mean


def _gray(values: NDArray[np.float64], root: bool) -> NDArray[np.uint8]:
    known = np.isfinite(values)
    shown = np.where(known, values, 0.0)
    if root:
        shown = np.sqrt(np.maximum(shown, 0))
    low, high = np.percentile(shown[known], (0.5, 99.5)) if known.any() else (0.0, 0.0)
    level = np.clip((shown - low) / (high - low), 0, 1) if high > low else np.full(shown.shape, 0.5)
    rgb = np.repeat((255 * level).astype(np.uint8)[..., None], 3, axis=-1)
    rgb[~known] = (60, 110, 190)
    return rgb
