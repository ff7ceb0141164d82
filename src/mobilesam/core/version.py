"""The version of this package, where everything may look it up."""

__version__ = "0.2.0"
