"""Loops over blocks of 32 pixels, written once as LLVM vectors for every machine.

A block is 32 pixels next to each other in a flattened pattern. Each function here is a numba
intrinsic that emits one such loop with its accumulators in registers; LLVM splits the vectors to
what the processor has (AVX-512, AVX2, NEON, ...), so nothing here knows an instruction set.

Integer pixels of up to 16 bits are added in 32-bit lanes, wider ones in 64-bit lanes, floats in
float64. The caller keeps a run of 32-bit lanes below 65536 blocks, so no lane overflows. Floats
that are not finite count as zero, and the answer says whether any finite pixel was seen.

numba keys its cache on the file of the compiled function only: after a change here, delete
``__pycache__/_fused*.nb*``.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LANES = 32
LINE_BYTES = 64

_I8, _I64, _F64 = ir.IntType(8), ir.IntType(64), ir.DoubleType()


class _Pixels:
    """How the 32 pixels of one dtype are loaded, widened and added.

    Narrow integers are widened without moving them, by shifts within 32-bit words, so that `widen`
    gives ``phases`` vectors, of which phase f holds the pixels f, f + phases, ...
    """

    def __init__(self, dtype: types.Type) -> None:
        self.real = isinstance(dtype, types.Float)
        self.signed = not self.real and dtype.signed
        self.bits = dtype.bitwidth
        one = {32: ir.FloatType(), 64: _F64}[self.bits] if self.real else ir.IntType(self.bits)
        self.narrow = ir.VectorType(one, LANES)
        self.whole = ir.VectorType(ir.IntType(self.bits), LANES)
        width = 32 if self.bits <= 16 else 64
        self.phases = 1 if self.real else width // self.bits
        self.small = not self.real and self.bits <= 16
        self.wide = ir.VectorType(_F64 if self.real else ir.IntType(width), LANES // self.phases)

    def widen(self, b: ir.IRBuilder, v: ir.Value) -> list[ir.Value]:
        """The pixels as ``phases`` vectors of type ``wide``."""
        if self.real:
            return [v if v.type == self.wide else b.fpext(v, self.wide)]
        words, last = b.bitcast(v, self.wide), self.phases - 1
        right = b.ashr if self.signed else b.lshr

        def shifted(words: ir.Value, by: Callable, bits: int) -> ir.Value:
            return by(words, splat(self.wide, bits)) if bits else words

        left = [shifted(words, b.shl, self.bits * (last - f)) for f in range(self.phases)]
        return [shifted(w, right, self.bits * last) for w in left]

    def tangled(self, b: ir.IRBuilder, v: ir.Value) -> list[ir.Value]:
        """Like `widen`, but each phase of unsigned pixels has the later ones above its own.

        They are only good for sums, which `untangle` puts right: that saves clearing the bits of
        the later phases in every pixel.
        """
        if self.real or self.signed:
            return self.widen(b, v)
        words = b.bitcast(v, self.wide)
        later = [b.lshr(words, splat(self.wide, self.bits * f)) for f in range(1, self.phases)]
        return [words, *later]

    def untangle(self, b: ir.IRBuilder, sums: list[ir.Value]) -> list[ir.Value]:
        """Sums by phase from sums of `tangled` pixels, exact wherever they fit in a lane.

        What was above phase f is phase f + 1 with all that was above it. A tangled sum may
        overflow: it is right modulo the lane, and so is the difference.
        """
        if self.real or self.signed:
            return sums
        above = [b.shl(v, splat(self.wide, self.bits)) for v in sums[1:]]
        return [*(b.sub(v, a) for v, a in zip(sums[:-1], above, strict=True)), sums[-1]]

    def add(self, b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
        return b.fadd(x, y) if self.real else b.add(x, y)

    def as_float(self, b: ir.IRBuilder, v: ir.Value) -> ir.Value:
        """An integer or float vector (or scalar) of this kind as float64."""
        to = ir.VectorType(_F64, v.type.count) if isinstance(v.type, ir.VectorType) else _F64
        if self.real:
            return v if v.type == to else b.fpext(v, to)
        return b.sitofp(v, to) if self.signed else b.uitofp(v, to)

    def long(self, b: ir.IRBuilder, v: ir.Value) -> ir.Value:
        """Accumulated lanes with room for their total."""
        to = ir.VectorType(_I64, v.type.count)
        if self.real or v.type == to:
            return v
        return b.sext(v, to) if self.signed else b.zext(v, to)

    def in_order(self, b: ir.IRBuilder, phases: list[ir.Value]) -> ir.Value:
        """32 lanes in the order of the pixels from vectors by phase."""
        if len(phases) == 1:
            return phases[0]
        if len(phases) == 4:
            phases = [_interleave(b, phases[0], phases[2]), _interleave(b, phases[1], phases[3])]
        return _interleave(b, *phases)

    def finite(self, b: ir.IRBuilder, v: ir.Value) -> ir.Value:
        """<32 x i1>: lanes that are neither NaN nor infinite."""
        infinity = {32: 0x7F800000, 64: 0x7FF0000000000000}[self.bits]
        bits = b.and_(b.bitcast(v, self.whole), splat(self.whole, (1 << (self.bits - 1)) - 1))
        return b.icmp_unsigned("<", bits, splat(self.whole, infinity))


def _interleave(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    count = x.type.count
    order = [i // 2 + count * (i % 2) for i in range(2 * count)]
    return b.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), 2 * count), order))


def splat(kind: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(kind, [value] * kind.count)


def zero(kind: ir.Type) -> ir.Constant:
    return ir.Constant(kind, None)


def load(b: ir.IRBuilder, pointer: ir.Value, index: ir.Value, kind: ir.VectorType) -> ir.Value:
    """32 items from ``pointer[index]``, aligned only as one item is."""
    place = b.bitcast(b.gep(pointer, [index]), kind.as_pointer())
    return b.load(place, align=_size(kind))


def store(b: ir.IRBuilder, value: ir.Value, pointer: ir.Value, index: ir.Value) -> None:
    place = b.bitcast(b.gep(pointer, [index]), value.type.as_pointer())
    b.store(value, place, align=_size(value.type))


def _size(kind: ir.VectorType) -> int:
    if isinstance(kind.element, ir.IntType):
        return kind.element.width // 8
    return 8 if isinstance(kind.element, ir.DoubleType) else 4


def fold(b: ir.IRBuilder, v: ir.Value, join: Callable[[ir.Value, ir.Value], ir.Value]) -> ir.Value:
    """All lanes joined pairwise, halves first: always the same order."""
    lanes, index = v.type.count, ir.IntType(32)
    while lanes > 1:
        lanes //= 2
        half = ir.VectorType(index, lanes)
        low = ir.Constant(half, list(range(lanes)))
        high = ir.Constant(half, list(range(lanes, 2 * lanes)))
        v = join(b.shuffle_vector(v, v, low), b.shuffle_vector(v, v, high))
    return b.extract_element(v, ir.Constant(index, 0))


def _data(context, builder, kind, value):
    return context.make_array(kind)(context, builder, value).data


class _Sum:
    """Accumulators that LLVM keeps in registers, and a note whether a finite pixel was seen."""

    def __init__(self, b: ir.IRBuilder, kind: _Pixels) -> None:
        self.b, self.kind = b, kind
        self.lanes = [cgutils.alloca_once_value(b, zero(kind.wide)) for _ in range(kind.phases)]
        self.seen = cgutils.alloca_once_value(b, zero(kind.whole))

    def take(self, raw: ir.Value, keep: ir.Value) -> None:
        """Add the pixels where ``keep`` has all bits set and, for floats, that are finite."""
        b, kind = self.b, self.kind
        if kind.real:
            keep = b.and_(keep, b.sext(kind.finite(b, raw), kind.whole))
            b.store(b.or_(b.load(self.seen), keep), self.seen)
        v = b.bitcast(b.and_(b.bitcast(raw, kind.whole), keep), kind.narrow)
        self.add(kind.tangled(b, v))

    def add(self, values: list[ir.Value]) -> None:
        for lane, v in zip(self.lanes, values, strict=True):
            self.b.store(self.kind.add(self.b, self.b.load(lane), v), lane)

    def running(self) -> list[ir.Value]:
        """What has been added so far, as `tangled` left it."""
        return [self.b.load(lane) for lane in self.lanes]

    def values(self) -> list[ir.Value]:
        return self.kind.untangle(self.b, self.running())

    def any(self) -> ir.Value:
        """1.0 if a finite pixel was taken, else 0.0."""
        if not self.kind.real:
            return ir.Constant(_F64, 1.0)
        bits = fold(self.b, self.b.load(self.seen), self.b.or_)
        return self.b.uitofp(self.b.icmp_unsigned("!=", bits, zero(bits.type)), _F64)

    def total(self) -> ir.Value:
        return total(self.b, self.kind, self.values())


def total(b: ir.IRBuilder, kind: _Pixels, lanes: list[ir.Value]) -> ir.Value:
    """One float64: the sum of accumulated lanes, rounded once if they are integers."""
    join = b.fadd if kind.real else b.add
    sums = [fold(b, kind.long(b, v), join) for v in lanes]
    for s in sums[1:]:
        sums[0] = join(sums[0], s)
    return kind.as_float(b, sums[0])


def prefetch(b: ir.IRBuilder, kind: _Pixels, pointer: ir.Value, index: ir.Value) -> None:
    """Ask for the cache lines of a block that will be read soon; harmless wherever it points."""
    i32 = ir.IntType(32)
    for line in range(0, LANES, LINE_BYTES * 8 // kind.bits):
        at = b.add(index, ir.Constant(_I64, line))
        place = b.bitcast(b.gep(pointer, [at]), _I8.as_pointer())
        signature = ir.FunctionType(ir.VoidType(), [place.type, i32, i32, i32])
        call = cgutils.get_or_insert_function(b.module, signature, "llvm.prefetch.p0")
        b.call(call, [place, i32(0), i32(2), i32(1)])


@intrinsic
def masked_sum(typingctx, flat, base, ahead, offsets, masks, low, high):
    """Sum of the pixels of blocks ``low:high`` under their masks, and whether any was finite.

    ``Σ_b Σ_l flat[base + offsets[b] + l]`` over lanes where ``masks[b, l]`` is -1 (others hold 0).
    The same blocks ``ahead`` pixels further on are asked for.
    """
    kind = _Pixels(flat.dtype)

    def emit(context, b, signature, args):
        pixels, offs, bits = (_data(context, b, signature.args[i], args[i]) for i in (0, 3, 4))
        sum_ = _Sum(b, kind)
        with cgutils.for_range(b, args[6], start=args[5]) as loop:
            at = b.add(args[1], b.load(b.gep(offs, [loop.index])))
            prefetch(b, kind, pixels, b.add(at, args[2]))
            keep = load(
                b, bits, b.mul(loop.index, ir.Constant(_I64, LANES)), ir.VectorType(_I8, LANES)
            )
            keep = keep if kind.bits == 8 else b.sext(keep, kind.whole)
            sum_.take(load(b, pixels, at, kind.narrow), keep)
        return context.make_tuple(b, signature.return_type, (sum_.total(), sum_.any()))

    return types.UniTuple(types.float64, 2)(flat, base, ahead, offsets, masks, low, high), emit


@intrinsic
def gather(typingctx, flat, base, places, low, high, buffer):
    """``buffer[i] = flat[base + places[low + i]]``, pixels of any places side by side.

    Eight to a turn of the loop, which LLVM would leave at one.
    """
    zero_, eight = ir.Constant(_I64, 0), ir.Constant(_I64, 8)

    def emit(context, b, signature, args):
        pixels, where, out = (_data(context, b, signature.args[i], args[i]) for i in (0, 2, 5))

        def take(number: ir.Value) -> None:
            at = b.add(args[1], b.load(b.gep(where, [b.add(args[3], number)])))
            b.store(b.load(b.gep(pixels, [at])), b.gep(out, [number]))

        count = b.sub(args[4], args[3])
        whole = b.and_(count, ir.Constant(_I64, -8))
        with cgutils.for_range_slice(b, zero_, whole, eight, _I64, inc=True) as (first, _):
            for i in range(8):
                take(b.add(first, ir.Constant(_I64, i)))
        with cgutils.for_range(b, count, start=whole) as loop:
            take(loop.index)
        return context.get_dummy_value()

    return types.void(flat, base, places, low, high, buffer), emit


@intrinsic
def weighted_sum(typingctx, flat, base, offsets, weights, low, high):
    """Sum of the pixels of blocks ``low:high`` times ``weights[b, l]``, in float64.

    A lane of weight 0 neither adds nor counts as a finite pixel.
    """
    kind = _Pixels(flat.dtype)
    floats = ir.VectorType(_F64, LANES)

    def emit(context, b, signature, args):
        pixels, offs, scale = (_data(context, b, signature.args[i], args[i]) for i in (0, 2, 3))
        sum_ = cgutils.alloca_once_value(b, zero(floats))
        seen = _Sum(b, kind)
        with cgutils.for_range(b, args[5], start=args[4]) as loop:
            at = b.add(args[1], b.load(b.gep(offs, [loop.index])))
            w = load(b, scale, b.mul(loop.index, ir.Constant(_I64, LANES)), floats)
            raw = load(b, pixels, at, kind.narrow)
            if kind.real:
                used = b.and_(kind.finite(b, raw), b.fcmp_unordered("!=", w, zero(floats)))
                raw = b.select(used, raw, zero(kind.narrow))
                b.store(b.or_(b.load(seen.seen), b.sext(used, kind.whole)), seen.seen)
            b.store(b.fadd(b.load(sum_), b.fmul(kind.as_float(b, raw), w)), sum_)
        result = (fold(b, b.load(sum_), b.fadd), seen.any())
        return context.make_tuple(b, signature.return_type, result)

    return types.UniTuple(types.float64, 2)(flat, base, offsets, weights, low, high), emit


@intrinsic
def strip_moments(typingctx, flat, base, stride, rows, keep, which, ahead):
    """Σv, Σ r·v and Σ l·v over ``rows`` rows of one strip of 32 columns.

    Row r starts at ``flat[base + r*stride]``; lane l counts where ``keep[which, l]`` is -1. Two
    additions a row do it: a running sum, and a running sum of the running sum. At most 256 rows.
    ``32*rows`` pixels from ``flat[ahead]`` on are asked for.
    """
    kind = _Pixels(flat.dtype)

    def emit(context, b, signature, args):
        pixels, bits = (_data(context, b, signature.args[i], args[i]) for i in (0, 4))
        keep_ = load(b, bits, b.mul(args[5], ir.Constant(_I64, LANES)), ir.VectorType(_I8, LANES))
        keep_ = keep_ if kind.bits == 8 else b.sext(keep_, kind.whole)
        once, twice = _Sum(b, kind), _Sum(b, kind)
        with cgutils.for_range(b, args[3]) as loop:
            raw = load(b, pixels, b.add(args[1], b.mul(loop.index, args[2])), kind.narrow)
            twice.add(once.running())
            once.take(raw, keep_)
            prefetch(b, kind, pixels, b.add(args[6], b.mul(loop.index, ir.Constant(_I64, LANES))))
        sum_, above = once.total(), twice.total()
        last = b.sitofp(b.sub(args[3], ir.Constant(_I64, 1)), _F64)
        down = b.fsub(b.fmul(last, sum_), above)
        along = total(b, kind, [_ramp(b, kind, v, f) for f, v in enumerate(once.values())])
        return context.make_tuple(b, signature.return_type, (sum_, down, along))

    return types.UniTuple(types.float64, 3)(flat, base, stride, rows, keep, which, ahead), emit


def _ramp(b: ir.IRBuilder, kind: _Pixels, lanes: ir.Value, phase: int) -> ir.Value:
    """Accumulated lanes of one phase times the number of their column in the strip."""
    lanes = kind.long(b, lanes)
    number = float if kind.real else int
    columns = [number(phase + kind.phases * i) for i in range(lanes.type.count)]
    ramp = ir.Constant(lanes.type, columns)
    return b.fmul(lanes, ramp) if kind.real else b.mul(lanes, ramp)


class _Images:
    """One block of the images that are folded over patterns: each adds or compares in registers."""

    def __init__(self, b: ir.IRBuilder, kind: _Pixels, offset: ir.Value) -> None:
        self.b, self.kind, self.offset = b, kind, offset
        self.floats = ir.VectorType(_F64, LANES)

    def finite(self, v: ir.Value) -> ir.Value:
        return self.b.select(self.kind.finite(self.b, v), v, zero(v.type)) if self.kind.real else v

    def add_to(self, out: ir.Value, lanes: ir.Value) -> None:
        b = self.b
        store(b, b.fadd(load(b, out, self.offset, self.floats), lanes), out, self.offset)


class _Sums(_Images):
    """Integers of up to 16 bits wait in 32-bit words until `empty`; others go to the sums.

    The words of a block are those of one phase after the other, as `tangled` left them: half as
    much to read and write as float64, and nothing to put in order.
    """

    def start(self, outs: list[ir.Value]) -> None:
        self.outs, self.sum = outs, _Sum(self.b, self.kind)
        if self.kind.small:
            for lane, place in zip(self.sum.lanes, self.places(), strict=True):
                self.b.store(load(self.b, outs[2], place, self.kind.wide), lane)

    def places(self) -> list[ir.Value]:
        """Where the words of each phase are."""
        steps = range(0, LANES, self.kind.wide.count)
        return [self.b.add(self.offset, ir.Constant(_I64, step)) for step in steps]

    def leave(self, lanes: list[ir.Value]) -> None:
        for lane, place in zip(lanes, self.places(), strict=True):
            store(self.b, lane, self.outs[2], place)

    def empty(self) -> None:
        """Add everything taken so far to the sums."""
        lanes = self.kind.in_order(self.b, self.sum.values())
        self.add_to(self.outs[0], self.kind.as_float(self.b, lanes))

    def step(self, v: ir.Value) -> None:
        b, kind = self.b, self.kind
        if kind.real:
            good = b.sext(kind.finite(b, v), kind.whole)
            b.store(b.sub(b.load(self.sum.seen), good), self.sum.seen)
        self.sum.add(kind.tangled(b, self.finite(v)))

    def finish(self) -> None:
        b, kind = self.b, self.kind
        if kind.small:
            self.leave(self.sum.running())
        else:
            self.empty()
        if kind.real:
            self.add_to(self.outs[1], b.sitofp(b.load(self.sum.seen), self.floats))


class _Squares(_Images):
    """Integers of up to 16 bits in integers, exactly; all others in float64."""

    def start(self, outs: list[ir.Value]) -> None:
        kind, self.outs = self.kind, outs
        lanes = [self.floats]
        if kind.small:
            lanes = [ir.VectorType(ir.IntType(32 if kind.bits == 8 else 64), LANES // 4)] * 4
        self.sums = [cgutils.alloca_once_value(self.b, zero(lane)) for lane in lanes]

    def step(self, v: ir.Value) -> None:
        b, kind = self.b, self.kind
        if not kind.small:
            v = kind.as_float(b, self.finite(v))
            b.store(b.fadd(b.load(self.sums[0]), b.fmul(v, v)), self.sums[0])
            return
        squares = [b.mul(x, x) for x in kind.widen(b, v)]
        if kind.bits == 16:
            halves = [_halves(b, square) for square in squares]
            squares = [half[i] for i in range(2) for half in halves]
        for sum_, square in zip(self.sums, squares, strict=True):
            b.store(b.add(b.load(sum_), square), sum_)

    def finish(self) -> None:
        sums = self.kind.in_order(self.b, [self.b.load(sum_) for sum_ in self.sums])
        self.add_to(self.outs[0], self.b.uitofp(sums, self.floats) if self.kind.small else sums)


def _halves(b: ir.IRBuilder, words: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Even and odd unsigned 32-bit lanes as 64-bit ones."""
    wide = ir.VectorType(_I64, words.type.count // 2)
    pairs, up = b.bitcast(words, wide), splat(wide, 32)
    return b.lshr(b.shl(pairs, up), up), b.lshr(pairs, up)


class _Maximum(_Images):
    def start(self, outs: list[ir.Value]) -> None:
        first = load(self.b, outs[0], self.offset, self.kind.narrow)
        self.outs, self.top = outs, cgutils.alloca_once_value(self.b, first)

    def step(self, v: ir.Value) -> None:
        b, kind, best = self.b, self.kind, self.b.load(self.top)
        if kind.real:
            more = b.and_(b.fcmp_ordered(">", v, best), kind.finite(b, v))
        else:
            more = (b.icmp_signed if kind.signed else b.icmp_unsigned)(">", v, best)
        b.store(b.select(more, v, best), self.top)

    def finish(self) -> None:
        store(self.b, self.b.load(self.top), self.outs[0], self.offset)


def _block(context, b, signature, args, images: list[type[_Images]], outs: list[list[int]]):
    """Run one block of the patterns ``chosen[low:high]`` through several images at once.

    ``args`` are flat, chosen, low, high, pixels, offset and then the arrays of the images.
    """
    kind = _Pixels(signature.args[0].dtype)
    wanted = [0, 1, *(i for places in outs for i in places)]
    data = {i: _data(context, b, signature.args[i], args[i]) for i in wanted}
    parts = [image(b, kind, args[5]) for image in images]
    for part, places in zip(parts, outs, strict=True):
        part.start([data[i] for i in places])
    with cgutils.for_range(b, args[3], start=args[2]) as loop:
        at = b.add(b.mul(b.load(b.gep(data[1], [loop.index])), args[4]), args[5])
        prefetch(b, kind, data[0], b.add(at, ir.Constant(_I64, 4 * LANES)))
        v = load(b, data[0], at, kind.narrow)
        for part in parts:
            part.step(v)
    for part in parts:
        part.finish()
    return context.get_dummy_value()


@intrinsic
def block_sums(typingctx, flat, chosen, low, high, pixels, offset, sums, valid, words):
    """Add one block of the patterns ``chosen[low:high]`` to ``sums`` and, for floats, ``valid``.

    Integers of up to 16 bits are added to ``words`` instead, for `empty_words` to move on.
    """

    def emit(context, b, signature, args):
        return _block(context, b, signature, args, [_Sums], [[6, 7, 8]])

    return types.void(flat, chosen, low, high, pixels, offset, sums, valid, words), emit


@intrinsic
def empty_words(typingctx, flat, offset, sums, words):
    """Move one block of what `block_sums` left in ``words`` to ``sums`` and clear it."""
    kind = _Pixels(flat.dtype)

    def emit(context, b, signature, args):
        if kind.small:
            to, from_ = (_data(context, b, signature.args[i], args[i]) for i in (2, 3))
            part = _Sums(b, kind, args[1])
            part.start([to, to, from_])
            part.empty()
            part.leave([zero(kind.wide)] * kind.phases)
        return context.get_dummy_value()

    return types.void(flat, offset, sums, words), emit


@intrinsic
def block_squares(typingctx, flat, chosen, low, high, pixels, offset, squares):
    """Add the squares of one block of the patterns ``chosen[low:high]`` to ``squares``."""

    def emit(context, b, signature, args):
        return _block(context, b, signature, args, [_Squares], [[6]])

    return types.void(flat, chosen, low, high, pixels, offset, squares), emit


@intrinsic
def block_maximum(typingctx, flat, chosen, low, high, pixels, offset, maximum):
    """Raise one block of ``maximum`` to the largest finite pixels of ``chosen[low:high]``."""

    def emit(context, b, signature, args):
        return _block(context, b, signature, args, [_Maximum], [[6]])

    return types.void(flat, chosen, low, high, pixels, offset, maximum), emit


@intrinsic
def block_sums_maximum(
    typingctx, flat, chosen, low, high, pixels, offset, sums, valid, words, maximum
):
    """`block_sums` and `block_maximum` in one go, each pixel read once."""

    def emit(context, b, signature, args):
        return _block(context, b, signature, args, [_Sums, _Maximum], [[6, 7, 8], [9]])

    return types.void(flat, chosen, low, high, pixels, offset, sums, valid, words, maximum), emit


@intrinsic
def block_sums_squares(
    typingctx, flat, chosen, low, high, pixels, offset, sums, valid, words, squares
):
    """`block_sums` and `block_squares` in one go."""

    def emit(context, b, signature, args):
        return _block(context, b, signature, args, [_Sums, _Squares], [[6, 7, 8], [9]])

    return types.void(flat, chosen, low, high, pixels, offset, sums, valid, words, squares), emit
