"""Datasets and inputs as the extension takes them."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import _slq
from ._arrays import as_array, floats, images, labels, network_input, refuse
from ._slq import Model


def load_data(name: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Reads a dataset: ``x_train, y_train, x_test, y_test``.

    ``name`` is what ``slq compress --data`` takes: a folder or zip of images, IDX or CIFAR files, an LMDB, an ``.npz``, or
    ``"mnist-10k"``, which is built in. ``x`` is uint8 of shape [N, H, W] or [N, C, H, W], ``y`` int64 of shape [N].
    """
    x_train, y_train, x_test, y_test = _slq.load_data(os.fspath(name))
    return x_train, y_train, x_test, y_test


def labelled(data: Any) -> Any:
    """A path, ``(x, y)``, ``(x_train, y_train, x_test, y_test)`` or two pairs."""
    if data is None:
        return None
    if isinstance(data, (str, os.PathLike)):
        return os.fspath(data)
    if not isinstance(data, (tuple, list)):
        refuse("data", f"give a path, (x, y) or (x_train, y_train, x_test, y_test), not {type(data).__name__}")
    parts = list(data)
    if len(parts) == 2 and all(isinstance(p, (tuple, list)) and len(p) == 2 for p in parts):
        parts = [*parts[0], *parts[1]]
    if len(parts) == 2:
        return images(parts[0], "x"), labels(parts[1], "y")
    if len(parts) == 4:
        x_train, y_train, x_test, y_test = parts
        return (
            images(x_train, "x_train"),
            labels(y_train, "y_train"),
            images(x_test, "x_test"),
            labels(y_test, "y_test"),
        )
    refuse("data", f"give (x, y) or (x_train, y_train, x_test, y_test), not {len(parts)} parts")


def unlabelled(inputs: Any, model: Model) -> Any:
    """A path, ``random:N``, an array of images or inputs, or a dict of arrays by the names of the network's inputs."""
    if inputs is None:
        return None
    if isinstance(inputs, (str, os.PathLike)):
        return os.fspath(inputs)
    values = {value.name: value for value in model.inputs}
    if isinstance(inputs, Mapping):
        unknown = [str(name) for name in inputs if name not in values]
        if unknown:
            refuse("inputs", f"the network has no input '{unknown[0]}'; its inputs are {', '.join(values)}")
        return {name: network_input(array, values[name]) for name, array in inputs.items()}
    if isinstance(inputs, (tuple, list)) and len(inputs) == 2 and hasattr(inputs[0], "shape"):
        refuse("inputs", "give the images alone: labels are not used here")
    if len(values) != 1:
        names = ", ".join(values)
        refuse("inputs", f"the network has {len(values)} inputs ({names}): give a dict with an array for each")
    array = inputs if hasattr(inputs, "dtype") else as_array(inputs, "images")
    if str(array.dtype) in ("uint8", "torch.uint8"):
        return {"": images(array, "images")}
    (value,) = values.values()
    if value.dtype == "float32":
        return {value.name: floats(array, "images")}
    return {value.name: network_input(array, value)}
