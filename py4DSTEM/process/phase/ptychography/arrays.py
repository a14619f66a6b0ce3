"""The forward model in plain arrays: double precision, and cards that compute.

What is here runs with the arrays it is given, numpy's or cupy's, in their precision;
`py4DSTEM.kernels.ptycho` does the same in single precision on processors, many times faster.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from py4DSTEM.errors import DependencyMissing, ParameterError
from py4DSTEM.kernels.ptycho_arrays import (
    Gradients,
    Scene,
    Waves,
    adjoint,
    cost,
    forward,
    from_planes,
    gradients,
    ramps,
    scene_of,
    to_planes,
)

__all__ = [
    "Gradients",
    "Scene",
    "Waves",
    "adjoint",
    "cost",
    "forward",
    "from_planes",
    "gradients",
    "namespace",
    "ramps",
    "scene_of",
    "to_host",
    "to_planes",
]


def namespace(device: str) -> Any:
    """The array library of a device.

    Parameters
    ----------
    device : {"cpu", "cuda", "auto"}
        "auto" takes a card where there is one, and else the processor.

    Returns
    -------
    module
        numpy or cupy.

    Raises
    ------
    DependencyMissing
        "cuda" without cupy.
    ParameterError
        "cuda" without a card or its driver; another device.

    Examples
    --------
    >>> namespace("cpu").__name__
    'numpy'
    """
    if device == "cpu":
        return np
    if device not in ("cuda", "auto"):
        raise ParameterError(f'device is "cpu", "cuda" or "auto", not {device!r}')
    try:
        return _cupy()
    except (DependencyMissing, ParameterError):
        if device == "cuda":
            raise
        return np


def _cupy() -> Any:
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        raise DependencyMissing("cupy-cuda12x", 'device="cuda"', "cuda") from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise ParameterError(f'device="cuda": {error}; use device="cpu"') from error
    if count < 1:
        raise ParameterError('device="cuda": this computer has no such card; use device="cpu"')
    return cupy


def to_host(array: Any) -> Any:
    """An array of either library as one of numpy.

    >>> to_host(np.arange(3))
    array([0, 1, 2])
    """
    return array.get() if hasattr(array, "get") else np.asarray(array)
