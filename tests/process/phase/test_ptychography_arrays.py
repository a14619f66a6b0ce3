"""The choice of a device, and the forward model on cards."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from py4DSTEM.errors import DependencyMissing, ParameterError
from py4DSTEM.process.phase.ptychography import arrays


class NoDriver(RuntimeError):
    pass


def cards(count):
    """Something like cupy where so many cards are, or no driver (None)."""

    def counted():
        if count is None:
            raise NoDriver("CUDA driver version is insufficient")
        return count

    runtime = SimpleNamespace(getDeviceCount=counted, CUDARuntimeError=NoDriver)
    return SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))


def test_a_processor_is_always_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert arrays.namespace("cpu") is np
    assert arrays.namespace("auto") is np


def test_without_the_library_the_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DependencyMissing, match=r'device="cuda" needs cupy.*py4DSTEM\[cuda\]'):
        arrays.namespace("cuda")


@pytest.mark.parametrize(("count", "said"), [(0, "no such card"), (None, "driver version")])
def test_without_a_card_it_is_said(monkeypatch, count, said):
    monkeypatch.setitem(sys.modules, "cupy", cards(count))
    assert arrays.namespace("auto") is np
    with pytest.raises(ParameterError, match=said):
        arrays.namespace("cuda")


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_a_card_is_taken(monkeypatch, device):
    library = cards(1)
    monkeypatch.setitem(sys.modules, "cupy", library)
    assert arrays.namespace(device) is library


@pytest.mark.parametrize("device", ["gpu", "", None])
def test_other_devices_are_refused(device):
    with pytest.raises(ParameterError, match='"cpu", "cuda" or "auto"'):
        arrays.namespace(device)


def test_gradients_on_a_card_are_those_of_the_processor():
    try:
        xp = arrays.namespace("cuda")
    except (DependencyMissing, ParameterError) as error:
        pytest.skip(f"needs a card: {error}")
    rng = np.random.default_rng(0)

    def noise(*shape):
        return rng.normal(size=shape) + 1j * rng.normal(size=shape)

    corners, shifts = rng.integers(0, 9, (4, 2)), rng.uniform(-0.5, 0.5, (4, 2))
    parts = (rng.uniform(1, 9, (4, 10, 14)), corners)
    parts += tuple(arrays.ramps(n, s) for n, s in zip((10, 14), shifts.T, strict=True))
    parts += tuple(np.exp(1j * noise(4, n).real) for n in (10, 14))
    parts += (np.exp(1j * noise(10, 14).real) / 140,)
    object_, probe, chosen = noise(2, 20, 25), noise(2, 10, 14), np.array([0, 1, 3])
    truth = arrays.gradients(arrays.Scene(*parts, 0.5, 1e-3), object_, probe, chosen)
    there = arrays.Scene(*(xp.asarray(part) for part in parts), 0.5, 1e-3)
    found = arrays.gradients(there, *(xp.asarray(v) for v in (object_, probe, chosen)))
    for one, other in zip(found, truth, strict=True):
        np.testing.assert_allclose(arrays.to_host(one), other, atol=1e-9 * np.abs(other).max())
