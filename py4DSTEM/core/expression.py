"""Arithmetic of images by name, such as ``(A - B) / (A + B)``, read without running any code."""

from __future__ import annotations

import ast
import keyword
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.errors import ParameterError, ShapeError

__all__ = ["Expression", "combined", "linear_factors", "signed_sum", "weights_of"]

Float = NDArray[np.float64]
MOST_CHARACTERS = 1000
MOST_LEVELS = 100
LARGEST_EXPONENT = 100.0
_ALLOWED = (
    "names, numbers, + - * / **, parentheses, abs(a), sqrt(a), log(a), min(a, b, …), max(a, b, …)"
)
_BINARY: dict[type[ast.operator], tuple[str, Callable[..., Any]]] = {
    ast.Add: ("+", np.add),
    ast.Sub: ("-", np.subtract),
    ast.Mult: ("*", np.multiply),
    ast.Div: ("/", np.true_divide),
    ast.Pow: ("**", np.power),
}
_UNARY: dict[type[ast.unaryop], tuple[str, Callable[..., Any]]] = {
    ast.UAdd: ("+", np.positive),
    ast.USub: ("-", np.negative),
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {"abs": np.abs, "sqrt": np.sqrt, "log": np.log}
_EXTREMES: dict[str, Callable[..., Any]] = {"min": np.minimum, "max": np.maximum}


@dataclass(frozen=True)
class Expression:
    """Arithmetic of named images.

    Parameters
    ----------
    text : str
        Names, numbers, ``+ - * / **``, parentheses, ``abs``, ``sqrt``, ``log`` (natural), ``min``
        and ``max``; at most 1000 characters, 100 levels deep; exponents are numbers up to 100.

    Raises
    ------
    ParameterError
        It holds anything else; the message says where.

    Examples
    --------
    >>> expression = Expression("(A - B) / (A + B)")
    >>> expression.names
    ('A', 'B')
    >>> expression.evaluate({"A": [3.0, 0.0], "B": [1.0, 0.0]})
    array([0.5, nan])
    """

    text: str
    names: tuple[str, ...] = field(init=False, compare=False)
    _tree: ast.expr = field(init=False, compare=False, repr=False)

    functions: ClassVar[tuple[str, ...]] = (*_FUNCTIONS, *_EXTREMES)

    def __post_init__(self) -> None:
        tree = _parsed(self.text)
        found = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        names = [node.id for node in found if id(node) not in called]
        object.__setattr__(self, "_tree", tree)
        object.__setattr__(self, "names", tuple(sorted(set(names))))

    def __str__(self) -> str:
        """The same expression, with only the parentheses that it needs."""
        return ast.unparse(self._tree)

    def evaluate(self, values: Mapping[str, ArrayLike]) -> Float:
        """The result, element by element.

        Parameters
        ----------
        values : mapping of str to array
            One of equal shape (or a number) for each of `names`; others are not used.

        Returns
        -------
        float64 array
            NaN where the result is not a finite number: division by zero, the root of what is
            negative, overflow.
        """
        missing = [name for name in self.names if name not in values]
        if missing:
            raise ParameterError(
                f"{self.text!r} needs {', '.join(missing)}; given: {', '.join(values) or 'nothing'}"
            )
        arrays = {name: _real(name, values[name]) for name in self.names}
        _check_shapes(arrays)
        with np.errstate(all="ignore"):
            result = np.array(_value(self._tree, arrays), dtype=np.float64)
        result[~np.isfinite(result)] = np.nan
        return result


def combined(weights: Mapping[str, ArrayLike], factors: Mapping[str, float]) -> Float:
    """Signed sum of detector weights, so that one image does for several.

    Parameters
    ----------
    weights : mapping of str to (Qx, Qy) float
        As `Detector.weights` gives.
    factors : mapping of str to float
        For each name that counts.

    Returns
    -------
    (Qx, Qy) float64
        ``Σ factor w``.

    Examples
    --------
    >>> combined({"A": [[1.0, 0.5]], "B": [[0.0, 1.0]]}, {"A": 1, "B": -2})
    array([[ 1. , -1.5]])
    """
    missing = [name for name in factors if name not in weights]
    if missing:
        raise ParameterError(
            f"no weights are given for {', '.join(missing)}; known: {', '.join(weights)}"
        )
    arrays = {name: _real(name, weights[name]) for name in factors}
    _check_shapes(arrays)
    if not arrays or not all(map(math.isfinite, factors.values())):
        raise ParameterError(f"a sum needs at least one finite factor, not {dict(factors)!r}")
    total: Float = np.sum([factors[name] * array for name, array in arrays.items()], axis=0)
    return total


def signed_sum(factors: Mapping[str, float]) -> str:
    """The expression of a sum of images, each times a factor.

    Parameters
    ----------
    factors : mapping of str to float
        Name → factor.

    Returns
    -------
    str

    Examples
    --------
    >>> signed_sum({"A": 1.0, "B": -1.0, "C": 0.5})
    'A - B + 0.5 * C'
    """
    if not factors or not all(map(math.isfinite, factors.values())):
        raise ParameterError(f"a sum needs at least one finite factor, not {dict(factors)!r}")
    text = ""
    for name, factor in factors.items():
        sign = "-" if math.copysign(1.0, factor) < 0 else "+"
        term = name if abs(factor) == 1 else f"{abs(float(factor))!r} * {name}"
        text += f" {sign} {term}" if text else (f"-{term}" if sign == "-" else term)
    return text


def linear_factors(expression: Expression) -> dict[str, float] | None:
    """Factor of each name where the expression is their weighted sum, else None.

    Parameters
    ----------
    expression : Expression

    Returns
    -------
    dict of str to float, or None
        None also where a constant is added, which no detector can give.

    Examples
    --------
    >>> linear_factors(Expression("2 * (A - B) / 4"))
    {'A': 0.5, 'B': -0.5}
    >>> linear_factors(Expression("A / B")) is None
    True
    """
    with np.errstate(all="ignore"):
        found = _linear(expression._tree)
    if found is None or found.pop("", 0.0) != 0.0 or not found:
        return None
    return found if all(map(math.isfinite, found.values())) else None


def weights_of(expression: Expression, weights: Mapping[str, ArrayLike]) -> Float | None:
    """One detector whose image is the expression of the images of several.

    Parameters
    ----------
    expression : Expression
    weights : mapping of str to (Qx, Qy) float

    Returns
    -------
    (Qx, Qy) float64, or None
        None where the expression is not linear in its names: then each needs its own image.

    Examples
    --------
    >>> weights_of(Expression("A - B"), {"A": [[1.0, 0.0]], "B": [[0.0, 1.0]]})
    array([[ 1., -1.]])
    """
    factors = linear_factors(expression)
    return None if factors is None else combined(weights, factors)


# ---- reading -------------------------------------------------------------------------------------
def _parsed(text: str) -> ast.expr:
    if not isinstance(text, str) or not text.strip():
        raise ParameterError(f"an expression is a text such as '(A - B) / (A + B)', not {text!r}")
    if len(text) > MOST_CHARACTERS:
        raise ParameterError(
            f"an expression has at most {MOST_CHARACTERS} characters, not {len(text)}"
        )
    flat = " ".join(text.split())
    # Words and signs of the language beyond arithmetic do not even reach its parser.
    for found in re.finditer(r"[^\W\d]\w*|[^\w\s+\-*/().,]", flat):
        if keyword.iskeyword(found[0]) or not found[0].isidentifier():
            raise _refused(flat, found.start(), f"{found[0]!r} is no arithmetic")
    try:
        tree = ast.parse(flat, mode="eval").body
    except SyntaxError as error:
        raise _refused(flat, (error.offset or len(flat) + 1) - 1, error.msg) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise _refused(flat, 0, str(error) or "it is nested too deeply") from None
    _check(tree, flat, MOST_LEVELS)
    return tree


def _refused(text: str, column: int, why: str) -> ParameterError:
    near = text[column : column + 12]
    where = f"at character {column + 1} ({near!r})" if near else "at its end"
    shown = text if len(text) <= 80 else f"{text[:77]}…"
    return ParameterError(
        f"cannot read the expression {shown!r}: {why}, {where}; allowed: {_ALLOWED}"
    )


def _check(node: ast.expr, text: str, levels: int) -> None:
    """Refuse all that is not arithmetic, naming the place."""

    def refuse(why: str) -> ParameterError:
        # Offsets of the parser count bytes, which differ from characters beyond ASCII.
        before = text.encode()[: node.col_offset].decode(errors="ignore")
        return _refused(text, len(before), why)

    if levels == 0:
        raise refuse(f"it is nested more than {MOST_LEVELS} levels deep")
    if isinstance(node, ast.Name):
        if node.id in Expression.functions:
            raise refuse(f"{node.id!r} is a function")
        return
    if isinstance(node, ast.Constant):
        if not _number_below(node.value, 1e300):
            raise refuse(f"{node.value!r} is not a number that can be used")
        return
    for part in _parts(node, refuse):
        _check(part, text, levels - 1)


def _parts(node: ast.expr, refuse: Callable[[str], ParameterError]) -> list[ast.expr]:
    """What an operation works on."""
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return [node.operand]
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        if isinstance(node.op, ast.Pow) and not _small_number(node.right):
            raise refuse(f"an exponent is a number between ±{LARGEST_EXPONENT:g}")
        return [node.left, node.right]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        name, count = node.func.id, len(node.args)
        if name not in Expression.functions:
            raise refuse(f"there is no function {name!r}")
        if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            raise refuse(f"{name} takes only values")
        if (name in _FUNCTIONS and count != 1) or (name in _EXTREMES and count < 2):
            raise refuse(f"{name} takes {'one value' if name in _FUNCTIONS else 'two or more'}")
        return node.args
    raise refuse("this is no arithmetic")


def _small_number(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return _small_number(node.operand)
    return isinstance(node, ast.Constant) and _number_below(node.value, LARGEST_EXPONENT)


def _number_below(value: object, largest: float) -> bool:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return numeric and abs(value) <= largest  # type: ignore[arg-type]


# ---- computing -----------------------------------------------------------------------------------
def _value(node: ast.expr, arrays: Mapping[str, Float]) -> Any:
    if isinstance(node, ast.Name):
        return arrays[node.id]
    if isinstance(node, ast.Constant):
        return np.float64(node.value)  # type: ignore[arg-type]  # checked to be a number
    if isinstance(node, ast.UnaryOp):
        return _UNARY[type(node.op)][1](_value(node.operand, arrays))
    if isinstance(node, ast.BinOp):
        operation = _BINARY[type(node.op)][1]
        return operation(_value(node.left, arrays), _value(node.right, arrays))
    return _called(node, [_value(a, arrays) for a in node.args])  # type: ignore[attr-defined]


def _called(node: Any, values: list[Any]) -> Any:
    name = node.func.id
    if name in _FUNCTIONS:
        return _FUNCTIONS[name](values[0])
    result = values[0]
    for value in values[1:]:
        result = _EXTREMES[name](result, value)
    return result


def _linear(node: ast.expr) -> dict[str, float] | None:
    """Factors of the names, and of 1 under ``""``; None where it is not linear."""
    if isinstance(node, ast.Name):
        return {node.id: 1.0}
    if isinstance(node, ast.UnaryOp):
        sign = -1.0 if isinstance(node.op, ast.USub) else 1.0
        return _scaled(_linear(node.operand), sign)
    if isinstance(node, ast.BinOp):
        return _linear_pair(node)
    if all(not isinstance(part, ast.Name) or part.id in _FUNCTIONS | _EXTREMES
           for part in ast.walk(node)):  # fmt: skip
        return {"": float(_value(node, {}))}
    return None


def _linear_pair(node: ast.BinOp) -> dict[str, float] | None:
    left, right = _linear(node.left), _linear(node.right)
    if left is None or right is None:
        return None
    if isinstance(node.op, ast.Add | ast.Sub):
        right = _scaled(right, 1.0 if isinstance(node.op, ast.Add) else -1.0) or {}
        return {name: left.get(name, 0.0) + right.get(name, 0.0) for name in {**left, **right}}
    if left.keys() <= {""} and right.keys() <= {""}:
        return {"": float(_value(node, {}))}
    if isinstance(node.op, ast.Mult):
        if left.keys() <= {""}:
            return _scaled(right, left.get("", 0.0))
        return _scaled(left, right.get("", 0.0)) if right.keys() <= {""} else None
    if isinstance(node.op, ast.Div) and right.keys() <= {""} and right.get("", 0.0) != 0.0:
        return _scaled(left, 1 / right[""])
    return None


def _scaled(factors: dict[str, float] | None, by: float) -> dict[str, float] | None:
    return None if factors is None else {name: by * value for name, value in factors.items()}


def _real(name: str, values: ArrayLike) -> Float:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise ParameterError(f"{name} must hold real numbers, not {array.dtype}")
    return array.astype(np.float64, copy=False)


def _check_shapes(arrays: Mapping[str, Float]) -> None:
    shapes = {name: array.shape for name, array in arrays.items() if array.ndim}
    if len(set(shapes.values())) > 1:
        raise ShapeError(f"images of different shapes cannot be combined: {shapes}")
