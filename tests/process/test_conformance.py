"""Every registered operation keeps the promises of all operations."""

import numpy as np
import pytest

from py4DSTEM.process import load_operations
from py4DSTEM.process.diffraction import MeanPattern
from py4DSTEM.stream.operation import Operation, PerScan
from py4DSTEM.testing.operations import CHECKS, check_operation, examples

OPERATIONS = [
    (kind, example)
    for kind, cls in sorted(load_operations().items())
    if cls.__module__.startswith("py4DSTEM.")
    for example in examples(cls)
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize(
    "example", [e for _, e in OPERATIONS], ids=[f"{k}-{n}" for n, (k, _) in enumerate(OPERATIONS)]
)
def test_promise(example, check):
    check(example)


def test_every_operation_has_an_example():
    ours = {k for k, c in load_operations().items() if c.__module__.startswith("py4DSTEM.")}
    assert ours == {kind for kind, _ in OPERATIONS}


class Broken(Operation):
    """Writes into what it was given."""

    outputs = {"x": PerScan(np.float64)}  # noqa: RUF012

    def step(self, plan, tile, kernels):
        tile.frames[:] = 0
        return {"x": tile.frames.sum((1, 2))}

    def finish(self, cube, plan, parts, history):
        return parts["x"]


class Global(Broken):
    """Mixes positions."""

    def step(self, plan, tile, kernels):
        return {"x": np.full(len(tile.frames), tile.frames.sum())}


def test_broken_operations_are_caught():
    checks = {c.__name__: c for c in CHECKS}
    with pytest.raises(ValueError, match="read-only"):
        checks["check_dtypes"](Broken())
    for name in ("check_neighbours_unharmed", "check_lazy_is_eager", "check_history"):
        with pytest.raises(AssertionError):
            checks[name](Global())
    check_operation(MeanPattern())
