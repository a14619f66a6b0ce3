"""Several float32 at a time: a vector type for compiled kernels.

The compiler finds vectors by itself in simple loops only; the butterflies of a Fourier transform,
with eight streams in and out, are none.  A value of this type lives in one register (or a few, on
processors with short ones), and arithmetic on it is that of its lanes: results do not depend on
their number, which is that of the processor.

Memory is named by its address, in bytes, as a whole number: arrays handed from function to function
cost more than the work on a column.  Who calls a kernel keeps the arrays alive, and checks them:
nothing here does.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

__all__ = [
    "LANES", "LINE", "address", "apart", "larger", "largest", "load", "masked", "number", "root",
    "same", "spread", "store", "total", "turn",
]  # fmt: skip

LANES = 16 if binding.get_host_cpu_features().get("avx512f") else 8
LINE = 4 * LANES
"""Bytes of a vector: what is loaded and stored at once."""

_FLAGS = ("contract",)  # a product and a sum may become one instruction


class Lanes(types.Type):
    """So many float32."""

    def __init__(self) -> None:
        super().__init__(name=f"float32x{LANES}")


lanes = Lanes()
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INDEX = ir.IntType(32)


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


def _pointer(builder: Any, place: Any, kind: Any = _VECTOR) -> Any:
    return builder.inttoptr(place, kind.as_pointer())


@intrinsic
def address(typing, array):
    """Where the elements of a contiguous array begin."""

    def code(context, builder, signature, values):
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        return builder.ptrtoint(data, context.get_value_type(types.intp))

    return types.intp(array), code


@intrinsic
def number(typing, place):
    """The int64 that is kept at an address."""

    def code(context, builder, signature, values):
        return builder.load(_pointer(builder, values[0], ir.IntType(64)), align=8)

    return types.int64(types.intp), code


@intrinsic
def load(typing, place):
    """The float32 from an address on."""

    def code(context, builder, signature, values):
        return builder.load(_pointer(builder, values[0]), align=4)

    return lanes(types.intp), code


@intrinsic
def store(typing, place, value):
    """Keep float32 from an address on."""

    def code(context, builder, signature, values):
        builder.store(values[1], _pointer(builder, values[0]), align=4)
        return context.get_dummy_value()

    return types.void(types.intp, lanes), code


@intrinsic
def same(typing, place):
    """The float32 at an address, in all lanes."""

    def code(context, builder, signature, values):
        one = builder.load(_pointer(builder, values[0], ir.FloatType()), align=4)
        return _everywhere(builder, one)

    return lanes(types.intp), code


def _everywhere(builder: Any, one: Any) -> Any:
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), one, _INDEX(0))
    zeros = ir.Constant(ir.VectorType(_INDEX, LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(_VECTOR, ir.Undefined), zeros)


@intrinsic
def spread(typing, value):
    """The same number in all lanes."""

    def code(context, builder, signature, values):
        return _everywhere(
            builder, context.cast(builder, values[0], signature.args[0], types.float32)
        )

    return lanes(types.float32), code


@intrinsic
def turn(typing, source, stride, target, step):
    """A square block of lanes, turned: rows `stride` bytes apart to columns `step` bytes apart."""

    def code(context, builder, signature, values):
        source, stride, target, step = values
        rows = []
        for i in range(LANES):
            place = builder.add(source, builder.mul(stride, stride.type(i)))
            rows.append(builder.load(_pointer(builder, place), align=4))
        for j, column in enumerate(_transposed(builder, rows)):
            place = builder.add(target, builder.mul(step, step.type(j)))
            builder.store(column, _pointer(builder, place), align=4)
        return context.get_dummy_value()

    intp = types.intp
    return types.void(intp, intp, intp, intp), code


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """A square block turned by exchanges of single values, then of pairs, of fours …"""
    half = 1
    while half < LANES:
        rows = _exchanged(builder, rows, half)
        half *= 2
    return rows


def _exchanged(builder: Any, rows: list[Any], half: int) -> list[Any]:
    """Swap the off-diagonal blocks of `half` x `half` of every 2 half x 2 half block."""
    out = list(rows)
    upper = [j if not j & half else LANES + (j ^ half) for j in range(LANES)]
    lower = [(j ^ half) if not j & half else LANES + j for j in range(LANES)]
    for i in range(LANES):
        if not i & half:
            a, b = rows[i], rows[i | half]
            out[i] = builder.shuffle_vector(a, b, _mask(upper))
            out[i | half] = builder.shuffle_vector(a, b, _mask(lower))
    return out


def _mask(order: list[int]) -> Any:
    return ir.Constant(ir.VectorType(_INDEX, LANES), order)


def _arithmetic(name: str) -> Any:
    @intrinsic
    def apply(typing, a, b):
        def code(context, builder, signature, values):
            return getattr(builder, name)(*values, flags=_FLAGS)

        return lanes(lanes, lanes), code

    return apply


_add, _sub, _mul, _div = (_arithmetic(name) for name in ("fadd", "fsub", "fmul", "fdiv"))


@intrinsic
def apart(typing):
    """The function that says this is compiled once, and not into each of those that call it."""

    def code(context, builder, signature, values):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def root(typing, value):
    """Square roots."""

    def code(context, builder, signature, values):
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        name = f"llvm.sqrt.v{LANES}f32"
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(function, values)

    return lanes(lanes), code


@intrinsic
def masked(typing, test, below, otherwise):
    """`below` in lanes where `test` is less than zero, else `otherwise`."""

    def code(context, builder, signature, values):
        negative = builder.fcmp_ordered("<", values[0], ir.Constant(_VECTOR, [0.0] * LANES))
        return builder.select(negative, values[1], values[2])

    return lanes(lanes, lanes, lanes), code


@intrinsic
def larger(typing, a, b):
    """The larger of each two lanes."""

    def code(context, builder, signature, values):
        return builder.select(builder.fcmp_ordered("<", *values), values[1], values[0])

    return lanes(lanes, lanes), code


@intrinsic
def largest(typing, value):
    """The largest lane."""

    def code(context, builder, signature, values):
        def pick(a, b):
            return builder.select(builder.fcmp_ordered("<", a, b), b, a)

        return _reduced([builder.extract_element(values[0], _INDEX(i)) for i in range(LANES)], pick)

    return types.float32(lanes), code


@intrinsic
def total(typing, value):
    """Sum of the lanes, in float64, always in the same order."""

    def code(context, builder, signature, values):
        wide = builder.fpext(values[0], ir.VectorType(ir.DoubleType(), LANES))
        sums = [builder.extract_element(wide, _INDEX(i)) for i in range(LANES)]
        return _reduced(sums, builder.fadd)

    return types.float64(lanes), code


def _reduced(values: list[Any], pair: Callable[[Any, Any], Any]) -> Any:
    """One value of many, by halves."""
    while len(values) > 1:
        half = len(values) // 2
        values = [pair(values[i], values[i + half]) for i in range(half)]
    return values[0]


def _both(a: Any, b: Any) -> bool:
    return isinstance(a, Lanes) and isinstance(b, Lanes)


@overload(operator.add)
def _add_lanes(a, b):
    if _both(a, b):
        return lambda a, b: _add(a, b)


@overload(operator.sub)
def _sub_lanes(a, b):
    if _both(a, b):
        return lambda a, b: _sub(a, b)


@overload(operator.mul)
def _mul_lanes(a, b):
    if _both(a, b):
        return lambda a, b: _mul(a, b)


@overload(operator.truediv)
def _div_lanes(a, b):
    if _both(a, b):
        return lambda a, b: _div(a, b)
