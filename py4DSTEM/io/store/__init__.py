"""The package's own files (HDF5, EMD 1.0 layout) and the generations that came before."""
