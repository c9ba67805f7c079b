"""One family of errors: each says what was wrong, where, and what to do.

Everything that pyrosparse raises on purpose derives from :class:`PyrosparseError`, so that a caller
can catch the family; each class also derives from the built-in error that a reader would expect.
"""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "ConfigError",
    "CorruptFileError",
    "DataError",
    "ExportError",
    "FitError",
    "NetworkError",
    "NewerFileError",
    "PriorError",
    "PruneError",
    "PyrosparseError",
    "PyrosparseWarning",
]


class PyrosparseError(Exception):
    """Base of every error raised on purpose by pyrosparse."""


class ConfigError(PyrosparseError, ValueError):
    """A setting (TOML key, command-line value, argument) is unknown or out of its range."""


class DataError(PyrosparseError, ValueError):
    """Data cannot be used: missing, truncated, NaN, wrong shape, labels out of range."""


class NetworkError(PyrosparseError, ValueError):
    """A network cannot be served: nothing to sparsify, a module of an unknown kind."""


class PriorError(PyrosparseError, ValueError):
    """A prior is unknown, has a bad parameter, or sits on a layer that it cannot serve."""


class FitError(PyrosparseError, RuntimeError):
    """Fitting stopped: NaN or Inf in the loss, or a loader that yields nothing."""


class CheckpointError(PyrosparseError, RuntimeError):
    """A checkpoint cannot be written, read, or does not belong to this model and guide."""


class PruneError(PyrosparseError, ValueError):
    """Pruning cannot do what was asked: no validation data, or a budget out of reach."""


class CorruptFileError(PyrosparseError, ValueError):
    """A file is truncated, altered, or not what its name says."""


class NewerFileError(CorruptFileError):
    """A file was written by a newer version of the format."""


class ExportError(PyrosparseError, RuntimeError):
    """A network cannot be exported to the format asked for."""


class PyrosparseWarning(UserWarning):
    """Something was done differently from what was asked; the text names the site, layer or file."""
