"""Crystals: cell, atoms, symmetry, reciprocal lattice and structure factors."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.crystal_table import COMMON
from py4DSTEM.core.scattering import Source, scattering_factor_A
from py4DSTEM.errors import CorruptFile, ParameterError, ShapeError

__all__ = ["Crystal", "CrystalModel", "Reflections", "Site"]

Float = NDArray[np.float64]
CrystalModel = str | dict[str, Any]
"""A crystal as JSON holds it: the name of a common one, the path of a CIF, or `Crystal.plain`."""
_SAME_A = 0.01
"""Atoms nearer than this are at one place."""
_TOO_LONG_A = 1000.0
_MOST_ATOMS = 100_000
_MOST_REFLECTIONS = 2_000_000
_EXTINCT = 1e-10
"""Share of the strongest intensity below which a reflection is called extinct."""


@dataclass(frozen=True)
class Site:
    """One atom of the asymmetric unit.

    Parameters
    ----------
    element : str
    position : (float, float, float)
        Fractional coordinates.
    occupancy : float
    B_A2 : float
        Isotropic Debye-Waller factor, ``B = 8π²⟨u²⟩``, in Å².
    """

    element: str
    position: tuple[float, float, float]
    occupancy: float = 1.0
    B_A2: float = 0.0


@dataclass(frozen=True, eq=False)
class Reflections:
    """Reciprocal lattice vectors that scatter, shortest first.

    Parameters
    ----------
    hkl : (n, 3) int64
    g_A : (n, 3) float64
        In crystal Cartesian coordinates, Å⁻¹ (no 2π).
    k_A : (n,) float64
        Lengths.
    F_A : (n,) complex128
        Structure factors of the cell in Å, for an electron at rest:
        ``F = Σ o f(k) exp(−B k²/4) exp(2πi h·r)``.
    """

    hkl: NDArray[np.int64]
    g_A: Float
    k_A: Float
    F_A: NDArray[np.complex128]

    def __len__(self) -> int:
        return len(self.hkl)


@dataclass(frozen=True, eq=False, repr=False)
class Crystal:
    """The atoms of a unit cell.

    Cartesian coordinates have a along x and b in the x-y plane.

    Parameters
    ----------
    cell : (6,) float
        a, b, c in Å and α, β, γ in degrees.
    elements : tuple of str
        Of every atom of the cell.
    positions : (n, 3) float64
        Fractional coordinates.
    occupancy, B_A2 : (n,) float64
        Shares of the sites, and isotropic Debye-Waller factors ``B = 8π²⟨u²⟩`` in Å².
    name : str
    source : "peng" or "mott-bethe"
        Of scattering factors; see `scattering_factor_A`.

    Raises
    ------
    ParameterError
        A cell that is none, places with more than one atom, an unknown element.

    Examples
    --------
    >>> gold = Crystal.common("Au")
    >>> gold.space_group, len(gold.rotations)
    ('Fm-3m (225)', 24)
    >>> found = gold.reflections(0.5)
    >>> sorted({round(float(k), 3) for k in found.k_A})
    [0.425, 0.49]
    """

    cell: tuple[float, float, float, float, float, float]
    elements: tuple[str, ...]
    positions: Float
    occupancy: Float
    B_A2: Float
    name: str = "crystal"
    source: Source = "peng"
    _basis: Float = field(init=False)

    # Functions of these names that take a crystal first, bound by `process.crystal`.
    diffraction_pattern: ClassVar[Callable[..., Any]]
    powder_pattern: ClassVar[Callable[..., Any]]
    bloch_waves: ClassVar[Callable[..., Any]]
    convergent_beam_pattern: ClassVar[Callable[..., Any]]
    zone_orientation: ClassVar[Callable[..., Any]]

    def __post_init__(self) -> None:
        cell = tuple(float(one) for one in self.cell)
        object.__setattr__(self, "cell", cell)
        object.__setattr__(self, "_basis", _lattice(cell))
        count = len(self.elements)
        for name, shape in (("positions", (count, 3)), ("occupancy", (count,)),
                            ("B_A2", (count,))):  # fmt: skip
            array = np.array(getattr(self, name), np.float64)
            if array.shape != shape:
                raise ShapeError(f"{name} of {count} atoms is {shape}, not {array.shape}")
            if not np.isfinite(array).all():
                raise ParameterError(f"{name} of {self.name!r} holds what is no number")
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if not 0 < count <= _MOST_ATOMS:
            raise ParameterError(f"a cell has 1 to {_MOST_ATOMS} atoms, not {count}")
        if (self.occupancy <= 0).any() or (self.occupancy > 1 + 1e-6).any():
            raise ParameterError("occupancies lie above 0 and up to 1")
        if (self.B_A2 < 0).any():
            raise ParameterError("Debye-Waller factors are not negative")
        for element in set(self.elements):
            scattering_factor_A(element, 0.0, self.source)
        self._check_places()

    def _check_places(self) -> None:
        full = np.array([self.occupancy[group].sum() for group in self._places])
        crowded = np.flatnonzero(full > 1.01)
        if len(crowded):
            where = self.positions[self._places[crowded[0]][0]].round(4).tolist()
            raise ParameterError(
                f"{self.name!r} has {full[crowded[0]]:.3g} atoms at {where}: one place holds one, "
                "and those that share it have occupancies that sum to at most 1"
            )

    # ---- where crystals come from ----------------------------------------------------------------
    @classmethod
    def of(cls, given: Crystal | str | Mapping[str, Any]) -> Crystal:
        """A crystal of what names one: itself, a common name, the path of a CIF, or `plain`."""
        if isinstance(given, Crystal):
            return given
        if isinstance(given, Mapping):
            try:
                return cls(**given)
            except TypeError as error:
                raise ParameterError(f"this mapping describes no crystal: {error}") from None
        if given in COMMON:
            return cls.common(given)
        if Path(given).suffix.lower() == ".cif":
            return cls.from_cif(given)
        raise ParameterError(
            f"{given!r} names no crystal: a .cif file, or one of {', '.join(sorted(COMMON))}"
        )

    @classmethod
    def common(cls, name: str) -> Crystal:
        """One of the structures that are built in, at room temperature.

        Lattice parameters are from R. W. G. Wyckoff, Crystal Structures (Interscience, 1963);
        atoms do not vibrate.
        """
        if name not in COMMON:
            raise ParameterError(f"{name!r} is none of {', '.join(sorted(COMMON))}")
        space_group, cell, sites = COMMON[name]
        return cls.from_lattice(
            cell, [Site(e, p) for e, p in sites], space_group=space_group, name=name
        )

    @classmethod
    def from_lattice(
        cls,
        cell: Sequence[float],
        sites: Sequence[Site | tuple[str, tuple[float, float, float]]],
        *,
        space_group: str | int = "P 1",
        name: str = "crystal",
        source: Source = "peng",
    ) -> Crystal:
        """Repeat the atoms of the asymmetric unit by the operations of a space group.

        Parameters
        ----------
        cell : (6,), or (3,) for right angles, or (1,) for a cube
            a, b, c in Å, α, β, γ in degrees.
        sites : sequence of Site, or of (element, position)
        space_group : str or int
            Hermann-Mauguin symbol or number (its standard setting).

        Raises
        ------
        ParameterError
            An unknown space group, or a cell that does not have its shape.

        Examples
        --------
        >>> salt = Crystal.from_lattice(
        ...     [5.64], [("Na", (0, 0, 0)), ("Cl", (0.5, 0.5, 0.5))], space_group="F m -3 m"
        ... )
        >>> len(salt.elements), round(salt.volume_A3, 1)
        (8, 179.4)
        """
        import gemmi

        full = _six(cell)
        if isinstance(space_group, int):
            group = gemmi.find_spacegroup_by_number(space_group)
        else:
            group = gemmi.find_spacegroup_by_name(space_group)
        if group is None:
            raise ParameterError(f"no space group {space_group!r}: write it as 'F m -3 m' or 225")
        if not gemmi.UnitCell(*full).is_compatible_with_spacegroup(group):
            raise ParameterError(f"a cell of {full} does not have the symmetry of {group.hm}")
        listed = [site if isinstance(site, Site) else Site(*site) for site in sites]
        return cls._repeated(full, listed, list(group.operations()), name, source)

    @classmethod
    def _repeated(
        cls, cell: tuple[float, ...], sites: Sequence[Site], operations: Sequence[Any],
        name: str, source: Source,
    ) -> Crystal:  # fmt: skip
        basis = _lattice(cell)
        atoms: list[Site] = []
        for site in sites:
            images = np.array([op.apply_to_xyz(list(site.position)) for op in operations])
            for place in _distinct(images, basis):
                atoms.append(Site(site.element, tuple(place), site.occupancy, site.B_A2))
        return cls(
            cell,  # type: ignore[arg-type]
            tuple(atom.element for atom in atoms),
            np.array([atom.position for atom in atoms]).reshape(-1, 3),
            np.array([atom.occupancy for atom in atoms]),
            np.array([atom.B_A2 for atom in atoms]),
            name,
            source,
        )

    @classmethod
    def from_cif(
        cls,
        path: str | Path,
        *,
        block: str | None = None,
        space_group: str | int | None = None,
        source: Source = "peng",
    ) -> Crystal:
        """Read a crystallographic information file.

        Parameters
        ----------
        path : path
        block : str, optional
            Of a file with several structures.
        space_group : str or int, optional
            Instead of that of the file, or where it has none; "P 1" if all atoms are listed.

        Raises
        ------
        CorruptFile
            Not a CIF, or one without a cell or atoms.
        ParameterError
            Several structures and no `block`; no symmetry and no `space_group`.
        """
        from gemmi import cif, make_small_structure_from_block

        path = Path(path)
        if not path.is_file():
            raise ParameterError(f"there is no file {path}")
        try:
            document = cif.read(str(path))
        except (ValueError, RuntimeError, OSError, UnicodeDecodeError) as error:
            raise CorruptFile(f"{path} is no CIF: {error}") from None
        chosen = _block(document, block, path)
        structure = make_small_structure_from_block(chosen)
        sites = [_site(site, path) for site in structure.sites]
        if not sites:
            raise CorruptFile(f"{path}: block {chosen.name!r} lists no atoms")
        cell = tuple(structure.cell.parameters)
        name = path.stem if block is None else block
        if space_group is not None:
            return cls.from_lattice(cell, sites, space_group=space_group, name=name, source=source)
        return cls._repeated(cell, sites, _operations(structure, path), name, source)

    @classmethod
    def from_ase(cls, atoms: Any, *, name: str | None = None, source: Source = "peng") -> Crystal:
        """The cell and atoms of an `ase.Atoms`, which must be periodic along all three axes."""
        lengths_angles = tuple(float(one) for one in atoms.cell.cellpar())
        count = len(atoms)
        return cls(
            lengths_angles,  # type: ignore[arg-type]
            tuple(atoms.get_chemical_symbols()),
            np.asarray(atoms.get_scaled_positions(wrap=True), np.float64),
            np.ones(count),
            np.zeros(count),
            name or str(atoms.get_chemical_formula()),
            source,
        )

    @classmethod
    def from_orix(cls, phase: Any, *, source: Source = "peng") -> Crystal:
        """The structure of an `orix.crystal_map.Phase`, or a `diffpy.structure.Structure`.

        Atoms are repeated by the space group of a phase that has one, unless they show it already.
        """
        structure = getattr(phase, "structure", phase)
        lattice = structure.lattice
        cell = tuple(float(getattr(lattice, n)) for n in ("a", "b", "c", "alpha", "beta", "gamma"))
        # A phase turns the cell into its axes but leaves atoms where they were: fractions change.
        given = getattr(phase, "_diffpy_lattice", None)
        back = np.eye(3) if given is None else lattice.base @ np.linalg.inv(given)
        sites = [
            Site(
                "".join(c for c in str(atom.element) if c.isalpha()),
                tuple(float(x) for x in np.asarray(atom.xyz) @ back),  # type: ignore[arg-type]
                float(atom.occupancy),
                float(atom.Bisoequiv),
            )
            for atom in structure
        ]
        name = str(getattr(phase, "name", "") or getattr(structure, "title", "") or "crystal")
        group = getattr(phase, "space_group", None)
        listed = cls.from_lattice(cell, sites, space_group=1, name=name, source=source)
        if group is None or listed.space_group_number == int(group.number):
            return listed
        number = int(group.number)
        return cls.from_lattice(cell, sites, space_group=number, name=name, source=source)

    # ---- what they are ---------------------------------------------------------------------------
    @property
    def lattice_A(self) -> Float:
        """Cell vectors a, b, c as rows, (3, 3), Å."""
        return self._basis

    @cached_property
    def reciprocal_A(self) -> Float:
        """Reciprocal vectors a*, b*, c* as rows, (3, 3), Å⁻¹ (no 2π)."""
        return np.asarray(np.linalg.inv(self._basis).T)

    @property
    def volume_A3(self) -> float:
        """Volume of the cell."""
        return float(np.linalg.det(self._basis))

    @cached_property
    def _places(self) -> list[NDArray[np.intp]]:
        """Atoms that share a place."""
        left = np.ones(len(self.elements), bool)
        groups = []
        for i in range(len(left)):
            if left[i]:
                apart = self.positions - self.positions[i]
                apart = (apart - apart.round()) @ self._basis
                group = np.flatnonzero(left & (np.linalg.norm(apart, axis=1) < _SAME_A))
                left[group] = False
                groups.append(group)
        return groups

    @cached_property
    def _symmetry(self) -> Any:
        """What spglib says of the cell; sites that are shared count as one kind of atom."""
        kinds: dict[Any, int] = {}
        numbers = []
        for group in self._places:
            what = tuple(sorted((self.elements[i], round(float(self.occupancy[i]), 4))
                                for i in group))  # fmt: skip
            numbers.append(kinds.setdefault(what, len(kinds) + 1))
        places = [self.positions[group[0]].tolist() for group in self._places]
        found = _symmetry_of(self._basis, places, numbers)
        if found is None:
            raise ParameterError(f"no symmetry was found in {self.name!r}: are all atoms listed?")
        return found

    @property
    def space_group(self) -> str:
        """Symbol and number, found from the atoms."""
        return f"{self._symmetry.international} ({self._symmetry.number})"

    @property
    def space_group_number(self) -> int:
        return int(self._symmetry.number)

    @property
    def point_group(self) -> str:
        """Symbol, found from the atoms."""
        return str(self._symmetry.pointgroup)

    @cached_property
    def rotations(self) -> Float:
        """Proper rotations that leave diffraction as it is, (m, 3, 3) Cartesian, identity first.

        Those of the Laue group: kinematic intensities of g and −g are alike.
        """
        operations = np.unique(self._symmetry.rotations, axis=0)
        operations = operations * np.linalg.det(operations).round().astype(int)[:, None, None]
        operations = np.unique(operations, axis=0)
        turned = self._basis.T @ operations @ np.linalg.inv(self._basis.T)
        order = np.argsort(-np.trace(turned, axis1=1, axis2=2), kind="stable")
        return np.asarray(turned[order])

    @property
    def formula(self) -> str:
        """Elements and how many of each the cell holds."""
        counts: dict[str, float] = {}
        for element, share in zip(self.elements, self.occupancy, strict=True):
            counts[element] = counts.get(element, 0.0) + float(share)
        return "".join(f"{e}{n:.4g}" if abs(n - 1) > 1e-9 else e for e, n in counts.items())

    def reflections(self, k_max_A: float, *, extinct: bool = False) -> Reflections:
        """Reciprocal lattice vectors up to a length, with their structure factors.

        Parameters
        ----------
        k_max_A : float
            Å⁻¹ (no 2π).
        extinct : bool
            Whether to list those that do not scatter.

        Raises
        ------
        ParameterError
            A length that is not positive, or so long that there are millions.
        """
        if not (math.isfinite(k_max_A) and k_max_A > 0):
            raise ParameterError(f"the longest reflection is positive, not {k_max_A}")
        if 4.2 * k_max_A**3 * self.volume_A3 > _MOST_REFLECTIONS:
            raise ParameterError(f"{self.name!r} has millions of reflections up to {k_max_A} 1/A")
        most = np.floor(k_max_A * np.linalg.norm(self._basis, axis=1) + 1e-9).astype(int)
        grid = np.mgrid[tuple(slice(-n, n + 1) for n in most)].reshape(3, -1).T
        g = grid @ self.reciprocal_A
        k = np.linalg.norm(g, axis=1)
        near = (k > 0) & (k <= k_max_A * (1 + 1e-12))
        hkl, g, k = grid[near], g[near], k[near]
        order = np.lexsort((*-hkl.T[::-1], k.round(9)))
        hkl, g, k = hkl[order], g[order], k[order]
        F = self.structure_factors_A(hkl)
        if not extinct and len(F):
            seen = np.abs(F) ** 2 > _EXTINCT * (np.abs(F) ** 2).max()
            hkl, g, k, F = hkl[seen], g[seen], k[seen], F[seen]
        return Reflections(hkl, g, k, F)

    def structure_factors_A(self, hkl: ArrayLike) -> NDArray[np.complex128]:
        """``F = Σ o f(k) exp(−B k²/4) exp(2πi h·r)`` of reflections (n, 3), in Å, (n,)."""
        indices = np.asarray(hkl, np.float64)
        if indices.ndim != 2 or indices.shape[1] != 3:
            raise ShapeError(f"indices are (n, 3), not {indices.shape}")
        k = np.linalg.norm(indices @ self.reciprocal_A, axis=1)
        total = np.zeros(len(k), np.complex128)
        factors = {e: scattering_factor_A(e, k, self.source) for e in set(self.elements)}
        for element, place, share, B in zip(
            self.elements, self.positions, self.occupancy, self.B_A2, strict=True
        ):
            wave = np.exp(2j * np.pi * (indices @ place) - B * k**2 / 4)
            total += share * factors[element] * wave
        return total

    def plain(self) -> dict[str, Any]:
        """All of it in plain numbers, as recipes and histories keep it; `Crystal.of` reads it."""
        return {
            "cell": list(self.cell),
            "elements": list(self.elements),
            "positions": self.positions.tolist(),
            "occupancy": self.occupancy.tolist(),
            "B_A2": self.B_A2.tolist(),
            "name": self.name,
            "source": self.source,
        }

    def __repr__(self) -> str:
        a, b, c, *angles = (f"{one:.6g}" for one in self.cell)
        return (
            f"Crystal({self.name!r}, {self.formula}, a {a}, b {b}, c {c} Å, "
            f"angles {', '.join(angles)}°)"
        )


# ---- cells ---------------------------------------------------------------------------------------
def _six(cell: Sequence[float]) -> tuple[float, ...]:
    values = tuple(float(one) for one in np.atleast_1d(np.asarray(cell, np.float64)))
    if len(values) == 1:
        values = values * 3
    if len(values) == 3:
        values = (*values, 90.0, 90.0, 90.0)
    if len(values) != 6:
        raise ParameterError(f"a cell is a, b, c, α, β, γ, not {len(values)} numbers")
    return values


def _lattice(cell: Sequence[float]) -> Float:
    """Rows a, b, c with a along x and b in the x-y plane."""
    lengths, angles = np.array(cell[:3], np.float64), np.array(cell[3:], np.float64)
    if len(cell) != 6 or not (np.isfinite(cell).all() and (lengths > 0).all()):
        raise ParameterError(f"a cell is a, b, c (Å) and α, β, γ (degrees), not {tuple(cell)}")
    if (lengths > _TOO_LONG_A).any():
        raise ParameterError(f"cell edges of {lengths.max():g} Å are too long: are they in Å?")
    alpha, beta, gamma = np.cos(np.radians(angles))
    inside = 1 - alpha**2 - beta**2 - gamma**2 + 2 * alpha * beta * gamma
    if (angles <= 0).any() or (angles >= 180).any() or inside <= 1e-9:
        raise ParameterError(f"angles of {angles.tolist()} degrees enclose no volume")
    sine = math.sqrt(1 - gamma**2)
    directions = np.array([
        [1, 0, 0],
        [gamma, sine, 0],
        [beta, (alpha - beta * gamma) / sine, math.sqrt(inside) / sine],
    ])  # fmt: skip
    basis: Float = lengths[:, None] * directions
    basis[np.abs(basis) < 1e-12 * lengths.max()] = 0.0
    basis.flags.writeable = False
    return basis


def _distinct(images: Float, basis: Float) -> list[Float]:
    """Places in the cell, each once; thirds and the like that were written short count as one."""
    kept: list[Float] = []
    for image in images % 1.0:
        image = np.where(image > 1 - 1e-6, 0.0, image)
        apart = np.array([image - other for other in kept]).reshape(-1, 3)
        apart = (apart - apart.round()) @ basis
        if not (np.linalg.norm(apart, axis=1) < _SAME_A).any():
            kept.append(image)
    return kept


def _symmetry_of(basis: Float, places: list[list[float]], numbers: list[int]) -> Any:
    """The symmetry of a cell as spglib finds it; None: it finds none."""
    import spglib

    with warnings.catch_warnings():  # its old way and its new way of saying no, both with warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return spglib.get_symmetry_dataset((basis.tolist(), places, numbers), symprec=_SAME_A)
        except spglib.SpglibError:
            return None


# ---- files ---------------------------------------------------------------------------------------
def _block(document: Any, name: str | None, path: Path) -> Any:
    """The structure of a file."""
    blocks = [one for one in document if one.find_value("_cell_length_a")]
    names = ", ".join(repr(one.name) for one in blocks)
    if name is not None:
        for one in blocks:
            if one.name == name:
                return one
        raise ParameterError(f"{path} has no structure {name!r}: it has {names or 'none'}")
    if not blocks:
        raise CorruptFile(f"{path} holds no unit cell: is it a CIF of a structure?")
    if len(blocks) > 1:
        raise ParameterError(f"{path} holds several structures: choose one by block=, of {names}")
    return blocks[0]


def _site(site: Any, path: Path) -> Site:
    if site.element.atomic_number == 0:
        raise CorruptFile(f"{path}: atom {site.label!r} is of no element ({site.type_symbol!r})")
    position = (site.fract.x, site.fract.y, site.fract.z)
    if not np.isfinite(position).all():
        raise CorruptFile(f"{path}: atom {site.label!r} has no place")
    u = site.u_iso
    if site.aniso.nonzero():
        u = site.aniso.trace() / 3
    B = max(0.0, 8 * math.pi**2 * float(u)) if math.isfinite(u) else 0.0
    return Site(site.element.name, position, min(float(site.occ), 1.0), B)


def _operations(structure: Any, path: Path) -> list[Any]:
    """Symmetry operations as the file lists them, or else those of its space group."""
    import gemmi

    if structure.symops:
        try:
            return [gemmi.Op(text) for text in structure.symops]
        except (ValueError, RuntimeError) as error:
            raise CorruptFile(f"{path}: a symmetry operation cannot be read: {error}") from None
    if structure.spacegroup is not None:
        return list(structure.spacegroup.operations())
    raise ParameterError(
        f"{path} names no symmetry: give space_group=, 'P 1' if it lists all atoms of the cell"
    )
