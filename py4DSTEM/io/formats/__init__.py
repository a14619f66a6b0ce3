"""One module per file format; each lists its classes in ``FORMATS``."""

MODULES = (
    "npy",
    "raw",
    "mib",
    "empad",
    "seq",
)
"""Modules of this package, in the order in which equal matches are tried."""
