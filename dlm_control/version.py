"""The version of dlm-control."""

__version__ = "0.1.0"
