"""Runs pairs of models with onnxruntime, all optimizations off, and compares names and values of their outputs.

Arguments: pairs of files. Exits with 1 and a line for each pair whose outputs are not the same to a few units in the last
place.
"""

import numpy as np
import onnx
import onnxruntime as ort
from pairs import report


def session(path):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def values(rng, info):
    if info.type == "tensor(int64)":
        return rng.integers(0, 3, info.shape)
    return rng.standard_normal(info.shape).astype(np.float32)


def check(first, second):
    onnx.checker.check_model(second, full_check=True)
    a, b = session(first), session(second)
    for get in ("get_inputs", "get_outputs"):
        names = [[(v.name, v.type, v.shape) for v in getattr(s, get)()] for s in (a, b)]
        if names[0] != names[1]:
            return f"{names[1]} in place of {names[0]}"
    rng = np.random.default_rng(5)
    feed = {i.name: values(rng, i) for i in a.get_inputs()}
    for x, y in zip(a.run(None, feed), b.run(None, feed)):
        if not np.allclose(x, y, rtol=1e-6, atol=4e-6 * max(1, np.abs(x[np.isfinite(x)]).max(initial=0)), equal_nan=True):
            return f"outputs differ by {np.abs(x - y).max()}"
    return None


report(check)
