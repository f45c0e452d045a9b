"""The version of this package, readable without importing package metadata."""

__version__ = "0.1.0"
