"""predictord turns one Python class into a local prediction service."""

__version__ = "0.1.0"
