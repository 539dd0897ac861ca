"""Clustering of numbers in one dimension, and codes of a codebook."""

import operator
from typing import Any, NamedTuple

import numpy as np

from . import _slq
from ._arrays import codes as as_codes
from ._arrays import floats
from ._slq import ClusterError, SettingError


class Clustering(NamedTuple):
    """The result of ``slq.cluster``."""

    codebook: np.ndarray
    """float32, ascending, of shape [k]; fewer where there are fewer distinct values."""
    codes: np.ndarray
    """The nearest entry of each value: uint8 up to 256 entries, else uint16, of the values' shape."""
    sse: float
    """Sum of squared differences, weighted."""
    lower_bound: float
    """No codebook of this size has a smaller error than this."""


def _whole(value: Any, name: str, least: int, most: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise SettingError(f"setting '{name}': {value!r} is no whole number") from None
    if not least <= number <= most:
        raise SettingError(f"setting '{name}': {number} is not between {least} and {most}")
    return number


def cluster(
    values: Any,
    k: int,
    weights: Any = None,
    *,
    algorithm: str = "exact",
    fixed: Any = (),
    seed: int = 0,
) -> Clustering:
    """Clusters numbers: the ``k`` values with the least squared error.

    ``values``: floats of any shape, finite. ``weights``: a weight for each value, of the same number. ``algorithm``: ``exact``
    (the optimum), ``fast`` (within 0.1 % of it), ``lloyd`` (k-means++ and Lloyd's iterations) or ``published`` (as in the
    paper). ``fixed``: centroids that must not move.

    Raises ``ClusterError`` for no values, values that are not finite, and more clusters than values; ``SettingError`` for
    anything else out of range.
    """
    k = _whole(k, "k", 1, 65536)
    seed = _whole(seed, "seed", 0, 2**64 - 1)
    array = floats(values, "values", ClusterError, integers=True)
    given = None if weights is None else floats(weights, "weights", ClusterError, integers=True)
    pinned = floats(fixed if np.size(fixed) else np.zeros(0, np.float32), "fixed", ClusterError, integers=True)
    return Clustering(*_slq.cluster(array, k, given, str(algorithm), pinned.ravel().tolist(), seed))


def encode(values: Any, codebook: Any) -> np.ndarray:
    """The codes of values: the position of the nearest entry of ``codebook``, the lowest on ties.

    ``codebook`` has the shape [k], or [groups, k]: then the values, in row-major order, fall into so many equal groups, each
    with a codebook of its own, as ``Model.palette`` gives them. Returns uint8 up to 256 entries, else uint16, of the values'
    shape.
    """
    array = floats(values, "values", ClusterError, integers=True)
    return _slq.encode(array, floats(codebook, "codebook", ClusterError, integers=True))


def decode(codes: Any, codebook: Any) -> np.ndarray:
    """The values of codes: ``codebook[codes]``; with a codebook of shape [groups, k], each group by its own.

    Returns float32 of the codes' shape. Raises ``ClusterError`` for a code beyond the codebook.
    """
    return _slq.decode(as_codes(codes), floats(codebook, "codebook", ClusterError, integers=True))
