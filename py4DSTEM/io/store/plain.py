"""Values as JSON text, exactly, with large arrays kept beside it.

What JSON lacks is written as an object with one key that starts with ``$``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from os import PathLike, fspath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration, Ellipse
from py4DSTEM.core.history import History
from py4DSTEM.core.metadata import Metadata

__all__ = ["dumps", "loads", "storable"]

Arrays = dict[str, NDArray[Any]]
_INLINE = 64  # values; longer arrays are stored as datasets
_PLAIN = "biufc"


def dumps(value: Any, arrays: Arrays) -> str:
    """JSON text of `value`; arrays that are too long for it are added to `arrays`."""
    return json.dumps(_encode(value, arrays))


def loads(text: str, arrays: Mapping[str, Any]) -> Any:
    """What `dumps` was given."""
    return _decode(json.loads(text), arrays)


def storable(value: Any) -> bool:
    """Whether `loads` gives back the same as `dumps` was given, and not a description."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.generic):
        return True
    if isinstance(value, Mapping):
        return all(storable(v) for pair in value.items() for v in pair)
    if isinstance(value, list | tuple):
        return all(map(storable, value))
    if isinstance(value, np.ndarray):
        return value.dtype.kind in _PLAIN
    return isinstance(value, Axis | Calibration | Ellipse | History | Metadata)


def _encode(value: Any, arrays: Arrays) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value.item() if isinstance(value, np.generic) else value
    for kind, encode in _ENCODERS:
        if isinstance(value, kind):
            return encode(value, arrays)
    return {"$repr": repr(value)}


def _encode_mapping(value: Mapping[Any, Any], arrays: Arrays) -> Any:
    simple = all(isinstance(k, str) and not k.startswith("$") for k in value)
    if simple:
        return {k: _encode(v, arrays) for k, v in value.items()}
    return {"$map": [[_encode(k, arrays), _encode(v, arrays)] for k, v in value.items()]}


def _encode_array(value: NDArray[Any], arrays: Arrays) -> Any:
    if value.dtype.kind not in _PLAIN:
        return {"$repr": repr(value.tolist())}
    if value.size > _INLINE:
        name = f"array{len(arrays)}"
        arrays[name] = value
        return {"$array": name}
    little = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
    data = base64.b64encode(little.tobytes()).decode()
    return {"$values": [little.dtype.str, list(value.shape), data]}


def _encode_calibration(value: Calibration, arrays: Arrays) -> Any:
    known = {f.name: getattr(value, f.name) for f in fields(Calibration)}
    known = {name: item for name, item in known.items() if item is not None}
    return {"$calibration": {name: _encode(item, arrays) for name, item in known.items()}}


def _encode_metadata(value: Metadata, arrays: Arrays) -> Any:
    known = {f.name: getattr(value, f.name) for f in fields(Metadata)}
    known = {name: item for name, item in known.items() if item is not None}
    return {"$metadata": _encode(known, arrays)}


_ENCODERS: tuple[tuple[Any, Callable[[Any, Arrays], Any]], ...] = (
    (np.generic, lambda v, a: _encode(v.item(), a) if v.dtype.kind in _PLAIN + "SU" else repr(v)),
    (complex, lambda v, a: {"$complex": [v.real, v.imag]}),
    (bytes, lambda v, a: {"$bytes": base64.b64encode(v).decode()}),
    (np.ndarray, _encode_array),
    (tuple, lambda v, a: {"$tuple": [_encode(x, a) for x in v]}),
    (list, lambda v, a: [_encode(x, a) for x in v]),
    (Mapping, _encode_mapping),
    (Axis, lambda v, a: {"$axis": [v.name, v.step, v.offset, v.unit]}),
    (Ellipse, lambda v, a: {"$ellipse": [v.a, v.b, v.theta_rad]}),
    (Calibration, _encode_calibration),
    (History, lambda v, a: {"$history": _encode(asdict(v), a)}),
    (Metadata, _encode_metadata),
    (PathLike, lambda v, a: fspath(v)),
)


def _decode(value: Any, arrays: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_decode(v, arrays) for v in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        key, inner = next(iter(value.items()))
        if key in _DECODERS:
            return _DECODERS[key](inner, arrays)
    return {k: _decode(v, arrays) for k, v in value.items()}


def _decode_values(inner: Any, arrays: Mapping[str, Any]) -> NDArray[Any]:
    dtype, shape, data = inner
    flat = np.frombuffer(base64.b64decode(data), np.dtype(dtype))
    return flat.astype(flat.dtype.newbyteorder("=")).reshape(shape)


def _known(cls: Any, inner: Any, arrays: Mapping[str, Any]) -> Any:
    """Rebuild a value; fields that a later version added are left out."""
    names = {f.name for f in fields(cls)}
    return cls(**{k: v for k, v in _decode(inner, arrays).items() if k in names})


_DECODERS: dict[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "$map": lambda v, a: {_decode(k, a): _decode(x, a) for k, x in v},
    "$array": lambda v, a: np.asarray(a[v]),
    "$values": _decode_values,
    "$tuple": lambda v, a: tuple(_decode(x, a) for x in v),
    "$complex": lambda v, a: complex(*v),
    "$bytes": lambda v, a: base64.b64decode(v),
    "$axis": lambda v, a: Axis(*v),
    "$ellipse": lambda v, a: Ellipse(*v),
    "$calibration": lambda v, a: _known(Calibration, v, a),
    "$history": lambda v, a: History.from_dict(_decode(v, a)),
    "$metadata": lambda v, a: _known(Metadata, v, a),
    "$repr": lambda v, a: v,
}
