"""Conformance kits for operations and formats, for us and for other packages."""
