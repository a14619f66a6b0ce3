"""HDF5 files: opened with care, read lazily and in parallel."""

from __future__ import annotations

from py4DSTEM.io.hdf5.array import Hdf5Array
from py4DSTEM.io.hdf5.safety import (
    DatasetInfo,
    StorageReport,
    check_dataset,
    find,
    is_hdf5,
    open_dataset,
    open_h5,
    storage_ok,
    walk_datasets,
)

__all__ = [
    "DatasetInfo",
    "Hdf5Array",
    "StorageReport",
    "check_dataset",
    "find",
    "is_hdf5",
    "open_dataset",
    "open_h5",
    "storage_ok",
    "walk_datasets",
]
