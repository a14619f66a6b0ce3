"""One module per file format; each lists its classes in ``FORMATS``."""

MODULES = (
    "npy",
    "emd",
    "raw",
    "mib",
    "empad",
    "seq",
    "dm",
    "blo",
    "tvips",
    "mrc",
    "tia",
    "hspy",
    "arina",
    "zarr_arrays",
    "ripple",
    "topspin",
    "tiff",
    "vendors",
    "hdf5",
    "zarr",
)
"""Modules of this package, in the order in which equal matches are tried."""
