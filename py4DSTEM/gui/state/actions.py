"""The table of all actions: menus, palette, shortcuts and their sheet are made from it; no Qt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from py4DSTEM.errors import ParameterError

__all__ = ["ACTIONS", "MENUS", "Action", "by_id", "keys", "rebound", "sheet"]

MENUS = ("File", "Edit", "View", "Detector", "Calibrate", "Analyze", "Batch", "Window", "Help")

Where = Literal["window", "images"]


@dataclass(frozen=True)
class Action:
    """One thing that can be asked of the program.

    Parameters
    ----------
    id : str
        ``menu.method``: the method of ``Handlers`` in ``handlers/<menu>.py``.
    text : str
        In the menu.
    menu : str
        ``"File"``, or ``"File/Export"`` for a menu within; "" for keys alone.
    keys : tuple of str
        Shortcuts as Qt writes them.
    help : str
        One sentence that says what it does.
    where : "window" or "images"
        Whether the keys count everywhere, or only while one of the images has the focus.
    needs_scan : bool
        Whether there must be a scan.
    room : str
        The module in ``handlers``, where it is not that of the menu.
    separated : bool
        Whether a line goes before it in the menu.
    checkable : bool
        Whether it is switched on and off.
    """

    id: str
    text: str
    menu: str
    keys: tuple[str, ...] = ()
    help: str = ""
    where: Where = "window"
    needs_scan: bool = True
    room: str = ""
    separated: bool = False
    checkable: bool = False

    @property
    def module(self) -> str:
        """Name of the module below ``handlers``."""
        return self.room or self.id.partition(".")[0]

    @property
    def method(self) -> str:
        """Name of the method of its ``Handlers``."""
        return self.id.partition(".")[2]


def _a(
    id: str, text: str, menu: str, keys: str = "", help: str = "", flags: str = "", room: str = ""
) -> Action:
    """A row of the table.

    Flags: i images only, n needs no scan, - a line before it, c on and off.
    """
    where: Where = "images" if "i" in flags else "window"
    return Action(
        id, text, menu, tuple(keys.split()), help, where, "n" not in flags, room, "-" in flags,
        "c" in flags,
    )  # fmt: skip


FILE = (
    _a("file.open", "Open…", "File", "Ctrl+O", "Open scans or results; several at once.", "n"),
    _a("file.open_folder", "Open folder…", "File", "Ctrl+Shift+O",
       "Open a scan that is a folder (Zarr), or all scans of a folder.", "n"),
    _a("file.import_scan", "Import assistant…", "File", "Ctrl+Alt+O",
       "Open a file whose layout is not known: shape, data type and offset by hand.", "n"),
    _a("file.open_project", "Open project…", "File", "",
       "Open what was saved: scans, detectors, calibrations, results.", "n-"),
    _a("file.save_project", "Save project", "File", "Ctrl+S",
       "Save scans, detectors, calibrations and results of this session."),
    _a("file.save_project_as", "Save project as…", "File", "Ctrl+Shift+S",
       "Save the project in another place."),
    _a("file.export_image", "Image…", "File/Export", "Ctrl+E",
       "Save the image of the focused panel: PNG as shown, TIFF or NPY with its values.",
       "-", "export"),
    _a("file.export_data", "Data…", "File/Export", "Ctrl+Shift+E",
       "Save results as HDF5, NPY or CSV.", "", "export"),
    _a("file.export_figure", "Figure…", "File/Export", "",
       "Save a figure with axes, scale bar and colour bar.", "", "export"),
    _a("file.export_notebook", "Notebook…", "File/Export", "",
       "Save all that was done as a notebook.", "", "export"),
    _a("file.save_recipe", "Recipe…", "File/Export", "",
       "Save all that was done as a recipe for other files.", "", "export"),
    _a("file.export_script", "Script…", "File/Export", "",
       "Save all that was done as a Python program.", "", "export"),
    _a("file.export_report", "Report…", "File/Export", "",
       "Save all results with figures and how they were made as one page for a browser.",
       "", "export"),
    _a("file.close_scan", "Close scan", "File", "Ctrl+W", "Close the scan that is shown.", "-"),
    _a("file.quit", "Quit", "File", "Ctrl+Q", "Close the program.", "n"),
)  # fmt: skip

EDIT = (
    _a("edit.undo", "Undo", "Edit", "Ctrl+Z", "Take the last act back.", "n"),
    _a("edit.redo", "Redo", "Edit", "Ctrl+Shift+Z Ctrl+Y", "Do again what was taken back.", "n"),
    _a("edit.copy_image", "Copy image", "Edit", "Ctrl+C",
       "Copy the focused image, as shown, to the clipboard.", "i-"),
    _a("edit.copy_python", "Copy as Python", "Edit", "Ctrl+Shift+C",
       "Copy the lines of Python that do what was done here."),
    _a("edit.preferences", "Preferences…", "Edit", "Ctrl+,",
       "Theme, memory, folder for caches, threads.", "n-"),
)  # fmt: skip

VIEW = (
    _a("view.layout_1", "One panel", "View/Layout", "Ctrl+1", "Show the focused image only.", "n"),
    _a("view.layout_2", "Two panels", "View/Layout", "Ctrl+2",
       "Show diffraction and real space.", "n"),
    _a("view.layout_3", "Three panels", "View/Layout", "Ctrl+3",
       "Show diffraction, real space and result.", "n"),
    _a("view.layout_4", "Four panels", "View/Layout", "Ctrl+4",
       "Show diffraction, real space, profile and result.", "n"),
    _a("view.reset_layout", "Reset layout", "View/Layout", "",
       "Put all panels back to where they were first.", "n"),
    _a("view.full_screen", "Full screen", "View", "F11", "Fill the screen, or leave it.", "nc"),
    _a("view.cycle_scale", "Next scale", "View", "Shift+L",
       "Linear, square root, logarithm of the focused image.", "-"),
    _a("view.gamma", "Gamma", "View", "G", "Square root, cube root, fourth root: brighter darks."),
    _a("view.colors", "Next colours", "View", "C", "The next colour map of the focused image."),
    _a("view.auto_contrast", "Auto contrast", "View", "Return Enter",
       "Choose the limits from the values that are shown.", "i"),
    _a("view.lock_contrast", "Lock contrast", "View", "Shift+Return",
       "Keep the limits as they are while the image changes.", "i"),
    _a("view.fit", "Fit image", "View", "F 0", "Show the whole image.", "-"),
    _a("view.zoom_in", "Zoom in", "View", "+ =", "Show less, larger."),
    _a("view.zoom_out", "Zoom out", "View", "-", "Show more, smaller."),
    _a("view.link_zoom", "Link real space and result", "View", "Ctrl+L",
       "Move and zoom the real-space image and the result together.", "c"),
    _a("view.next_panel", "Next panel", "View", "Tab", "Focus the next image.", "in-"),
    _a("view.previous_panel", "Previous panel", "View", "Shift+Tab",
       "Focus the image before.", "in"),
    _a("view.hud", "Timing", "View", "Ctrl+Alt+T",
       "Show the time of each request and the frame rate in the status line.", "nc"),
)  # fmt: skip

SHAPES = (
    ("point", "1", "One pixel of the detector."), ("disk", "2", "A disk on the beam."),
    ("annulus", "3", "A ring around the beam."), ("rectangle", "4", "A rectangle."),
    ("ellipse", "5", "An ellipse."), ("wedge", "6", "A part of a ring between two directions."),
)  # fmt: skip

DETECTOR = (
    *(_a(f"detector.add_{name}", f"Add {name}", "Detector/Add", key, text)
      for name, key, text in SHAPES),
    _a("detector.add_polygon", "Add polygon", "Detector/Add", "", "A polygon; drag its corners."),
    _a("detector.add_lattice", "Add lattice of disks", "Detector/Add", "",
       "Disks on a lattice, as for dark field of one phase."),
    _a("detector.add_segments", "Add segments…", "Detector/Add", "", "4 to 16 segments of a ring."),
    _a("detector.add_mask", "Add mask from file…", "Detector/Add", "",
       "Weights of every pixel from a file of an image (NPY, TIFF, HDF5 …)."),
    _a("detector.paint", "Paint mask", "Detector/Add", "P",
       "Paint pixels, or scan positions, with the left button on the focused image: Ctrl takes "
       "away, [ and ] change the size, Esc ends.", "-c"),
    _a("detector.erase", "Erase mask", "Detector/Add", "Shift+E",
       "Take away what was painted, with the left button on the focused image.", "c"),
    _a("detector.preset_bf", "BF", "Detector/Preset", "B", "Bright field: 0 … α."),
    _a("detector.preset_abf", "ABF", "Detector/Preset", "Shift+B",
       "Annular bright field: α/2 … α."),
    _a("detector.preset_laadf", "LAADF", "Detector/Preset", "Shift+D",
       "Low-angle annular dark field: 1.1 α … 3 α."),
    _a("detector.preset_haadf", "HAADF", "Detector/Preset", "H",
       "High-angle annular dark field: 3 α … edge."),
    _a("detector.preset_dpc", "DPC quadrants", "Detector/Preset", "Shift+P",
       "Four quadrants; (down - up) / (down + up)."),
    _a("detector.preset_com", "Centre of mass", "Detector/Preset", "Shift+O",
       "The shift of the pattern's centre of mass instead of a sum."),
    _a("detector.difference", "A - B", "Detector/Combine", "",
       "The difference of the first two detectors.", "-"),
    _a("detector.contrast", "(A - B) / (A + B)", "Detector/Combine", "",
       "The difference of the first two detectors, over their sum."),
    _a("detector.signed_sum", "Weighted sum", "Detector/Combine", "",
       "Each detector times its weight, added up."),
    _a("detector.next", "Next detector", "Detector", "N", "Choose the next detector for keys.",
       "-"),
    _a("detector.toggle", "Switch detector on or off", "Detector", "T",
       "Whether the active detector counts."),
    _a("detector.remove", "Remove detector", "Detector", "Delete",
       "Take the active detector away.", "i"),
    _a("detector.grow", "Larger", "Detector/Size", "]", "Outer radius one pixel larger."),
    _a("detector.shrink", "Smaller", "Detector/Size", "[", "Outer radius one pixel smaller."),
    _a("detector.grow_inner", "Inner radius larger", "Detector/Size", "Shift+]",
       "Inner radius one pixel larger."),
    _a("detector.shrink_inner", "Inner radius smaller", "Detector/Size", "Shift+[",
       "Inner radius one pixel smaller."),
    _a("detector.select_point", "Point", "Detector/Scan positions", "Alt+1",
       "Show the pattern of one scan position.", "-"),
    _a("detector.select_rectangle", "Rectangle", "Detector/Scan positions", "Alt+2",
       "Show the pattern of a rectangle of the scan."),
    _a("detector.select_disk", "Disk", "Detector/Scan positions", "Alt+3",
       "Show the pattern of a disk of the scan."),
    _a("detector.select_polygon", "Polygon", "Detector/Scan positions", "Alt+4",
       "Show the pattern of a polygon of the scan."),
    _a("detector.select_file", "Mask from file…", "Detector/Scan positions", "",
       "Positions that are not zero in a file of an image of the scan (NPY, TIFF, HDF5 …)."),
    _a("detector.select_limits", "Within contrast limits", "Detector/Scan positions", "",
       "Positions whose value on the real-space image lies between the limits of its colour bar."),
    _a("detector.mean_or_point", "Mean or point", "Detector/Scan positions", "M",
       "The mean of the whole scan, or the pattern of one position."),
    _a("detector.how_mean", "Mean", "Detector/Scan positions", "", "Mean of the patterns.", "-"),
    _a("detector.how_max", "Maximum", "Detector/Scan positions", "",
       "Largest value of each detector pixel."),
    _a("detector.how_sum", "Sum", "Detector/Scan positions", "", "Sum of the patterns."),
)  # fmt: skip

_STEPS = (("", "", "1 pixel"), ("_fast", "Shift+", "10 pixels"), ("_fine", "Ctrl+", "0.1 pixel"))


def _nudges() -> Iterator[Action]:
    """Arrows move what belongs to the focused image; letters always the same thing."""
    sides = (("up", "W", "I"), ("left", "A", "J"), ("down", "S", "K"), ("right", "D", "L"))
    for side, detector, probe in sides:
        for suffix, modifier, step in _STEPS:
            help = f"Move the shape of the focused image {side} by {step}."
            yield _a(f"detector.{side}{suffix}", f"Move {side} by {step}", "",
                     modifier + side.capitalize(), help, "i")  # fmt: skip
        help = f"Move the active detector {side} by 1 pixel."
        yield _a(f"detector.detector_{side}", f"Move detector {side}", "", detector, help)
        help = f"Move the scan position {side} by 1 pixel."
        yield _a(f"detector.probe_{side}", f"Move scan position {side}", "", probe, help)


CALIBRATE = (
    _a("calibrate.wizard", "Calibration…", "Calibrate", "Ctrl+Shift+K",
       "Origin, ellipse, pixel size and rotation, one after the other."),
    _a("calibrate.by_hand", "Values by hand…", "Calibrate", "",
       "Pixel sizes, beam energy and convergence angle in the inspector."),
    _a("calibrate.from_file", "From file…", "Calibrate", "",
       "Take calibrations that were measured and saved with another scan."),
    _a("calibrate.raw", "Before and after", "Calibrate", "Ctrl+Shift+R",
       "Show the images as the file has them, or with all calibrations.", "-c"),
    _a("calibrate.look_raw", "Look at it raw", "", "Space",
       "While held: the images as the file has them, without calibrations.", "i"),
)  # fmt: skip

ANALYZE = (
    _a("analyze.quality", "Quality report…", "Analyze", "Ctrl+Shift+Q",
       "Detector, frames, dose, descan and beam in one pass."),
    _a("analyze.bragg", "Bragg disks…", "Analyze", "Ctrl+B",
       "Find Bragg disks, with live previews."),
    _a("analyze.strain", "Strain…", "Analyze", "Ctrl+T", "Strain from Bragg disks."),
    _a("analyze.step", "Any step…", "Analyze", "Ctrl+R",
       "Every operation and analysis, with a form for its parameters."),
    _a("analyze.pin", "Keep image as result", "Analyze", "R",
       "Keep the image that the detectors give under a name.", "-"),
    _a("analyze.cancel", "Cancel", "Analyze", "Escape",
       "Cancel the job that runs, or end a drag.", "n"),
    _a("analyze.cancel_all", "Cancel all jobs", "Analyze", "Ctrl+.", "Cancel every job.", "n"),
)  # fmt: skip

BATCH = (
    _a("batch.panel", "Runs…", "Batch", "Ctrl+Shift+B",
       "A recipe over many files: put together, tried dry, run, looked at.", "n"),
    _a("batch.from_project", "Recipe of the project", "Batch", "",
       "Take what was done to the scan in front as the recipe of a run.", "-"),
    _a("batch.open_recipe", "Open recipe…", "Batch", "", "Take the recipe of a file.", "n"),
    _a("batch.add_files", "Add files…", "Batch", "", "Choose files that the recipe is run over.",
       "n"),
    _a("batch.dry_run", "Dry run", "Batch", "",
       "Say what would be done to each file, and why.", "n-"),
    _a("batch.run", "Run", "Batch", "",
       "Run the recipe over the files, in a process that outlives this program.", "n"),
    _a("batch.stop", "Stop the run", "Batch", "",
       "End the run after the steps in flight; once more: at once.", "n"),
    _a("batch.retry", "Retry failed files", "Batch", "",
       "Work on the files once more that failed.", "n"),
    _a("batch.report", "Report of the run", "Batch", "",
       "Write the page of the run and open it in the browser.", "n"),
    _a("batch.attach", "Attach to a run…", "Batch", "",
       "Show a run that is in some folder, at work or not.", "n-"),
)  # fmt: skip

WINDOW = (
    _a("view.console", "Console", "Window", "Ctrl+J",
       "Python with the open scans and results.", "n"),
)  # fmt: skip

HELP = (
    _a("help.palette", "Find action…", "Help", "Ctrl+K", "Find any action by its name.", "n"),
    _a("help.shortcuts", "Shortcuts…", "Help", "F1 ?", "All keys; change them here.", "n"),
    _a("help.tour", "Tour…", "Help", "", "Twelve steps from a scan to a strain map.", "n-"),
    _a("help.sample", "Sample data", "Help", "", "Open a small simulated scan.", "n"),
    _a("help.documentation", "Documentation", "Help", "", "Open the documentation.", "n"),
    _a("help.diagnostics", "Copy diagnostics", "Help", "",
       "Copy versions, system and the last acts, for a report.", "n"),
    _a("help.save_diagnostics", "Save diagnostics…", "Help", "",
       "Save versions, system, the last acts and the end of the log, for a report.", "n"),
    _a("help.log", "Open log", "Help", "", "Open the file with errors of this program.", "n"),
    _a("help.about", "About py4DSTEM", "Help", "", "Version and licence.", "n-"),
)  # fmt: skip

ACTIONS: tuple[Action, ...] = (
    *FILE, *EDIT, *VIEW, *DETECTOR, *_nudges(), *CALIBRATE, *ANALYZE, *BATCH, *WINDOW,
    *HELP,
)  # fmt: skip


def by_id(id: str) -> Action:
    """
    >>> by_id("file.open").keys
    ('Ctrl+O',)
    """
    found = next((action for action in ACTIONS if action.id == id), None)
    if found is None:
        raise ParameterError(f"no action {id!r}")
    return found


def keys(changed: Mapping[str, Sequence[str]] | None = None) -> dict[str, tuple[str, ...]]:
    """Shortcuts by action: those of the table where the user has not chosen others."""
    changed = changed or {}
    return {action.id: tuple(changed.get(action.id, action.keys)) for action in ACTIONS}


def rebound(
    changed: Mapping[str, Sequence[str]], id: str, wish: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """`changed` with other keys for one action; keys that another has are refused.

    >>> rebound({}, "file.open", ["Ctrl+P"])
    {'file.open': ('Ctrl+P',)}
    """
    by_id(id)
    for other, taken in keys(changed).items():
        clash = {key.lower() for key in taken} & {key.lower() for key in wish}
        if other != id and clash:
            raise ParameterError(
                f"{', '.join(sorted(clash))} belongs to {by_id(other).text!r}: "
                "choose another key, or take it from there first"
            )
    return {**{k: tuple(v) for k, v in changed.items()}, id: tuple(wish)}


def sheet(changed: Mapping[str, Sequence[str]] | None = None) -> str:
    """All actions with keys as a Markdown table: the sheet of the documentation."""
    rows = [
        f"| {' or '.join(f'`{key}`' for key in found)} | {action.text} | {action.help} |"
        for action, found in zip(ACTIONS, keys(changed).values(), strict=True)
        if found
    ]
    return "\n".join(["| Keys | Action | What it does |", "|---|---|---|", *rows])
