"""Puts the float weights that a peer's file decodes to into the network, for the evaluator. Needs numpy and onnx."""

import numpy as np
import onnx
from onnx import numpy_helper


class UnmatchedError(Exception):
    """Weights that do not belong to the network."""


def fill(network, weights, target):
    """Writes `network` with the float weights that a peer's file decodes to.

    `weights` maps names to arrays. A name that the network knows counts as it is; an array with another name belongs to the
    float weight of its shape that it is closest to. Every float weight that some array could stand for must find one.
    """
    model = onnx.load(network)
    floats = {i.name: i for i in model.graph.initializer if i.data_type == onnx.TensorProto.FLOAT}
    found = {n: np.asarray(w, np.float32) for n, w in weights.items() if n in floats}
    others = [np.asarray(w, np.float32) for n, w in weights.items() if n not in floats]
    if others:
        found.update(nearest({n: numpy_helper.to_array(i) for n, i in floats.items() if n not in found}, others))
    for name, value in found.items():
        old = numpy_helper.to_array(floats[name])
        if old.size != value.size:
            raise UnmatchedError(f"{name} has {value.size} values where the network has {old.size}")
        floats[name].CopyFrom(numpy_helper.from_array(value.reshape(old.shape), name))
    onnx.save(model, target)
    return target


def nearest(floats, arrays):
    """For each float weight the unused array of its shape at the least squared distance."""
    found = {}
    for name, wanted in floats.items():
        if wanted.size < 2:
            continue
        squeezed = wanted.squeeze().shape
        fitting = [i for i, a in enumerate(arrays) if a is not None and a.squeeze().shape == squeezed]
        if not fitting:
            raise UnmatchedError(f"no array of the file stands for {name}, shape {wanted.shape}")
        distance = [float(np.sum((arrays[i].reshape(wanted.shape) - wanted) ** 2)) for i in fitting]
        best = fitting[int(np.argmin(distance))]
        if min(distance) > float(np.sum(wanted.astype(np.float64) ** 2)) + 1e-12:
            raise UnmatchedError(f"no array of the file is close to {name}")
        found[name], arrays[best] = arrays[best], None
    return found
