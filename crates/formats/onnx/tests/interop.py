"""Opens palettized models with onnx and onnxruntime and compares them with their dense twins.

Arguments: pairs of files, dense then palettized. Exits with 1 and a line for each failure.
"""

import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from pairs import report


def session(path, optimized=None):
    """Folds constants where `optimized` says where to put the result, else runs every node as it is."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if optimized:
        options.optimized_model_filepath = optimized
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    else:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def check(dense, palettized):
    onnx.checker.check_model(palettized, full_check=True)
    with tempfile.NamedTemporaryFile(suffix=".onnx") as a, tempfile.NamedTemporaryFile(suffix=".onnx") as b:
        first, second = session(dense, a.name), session(palettized, b.name)
        ops = [[n.op_type for n in onnx.load(f.name).graph.node] for f in (a, b)]
    if ops[0] != ops[1]:
        return f"not folded: {ops[1]} in place of {ops[0]}"
    rng = np.random.default_rng(1)
    feed = {}
    for i in first.get_inputs():
        value = np.asarray(rng.standard_normal([d if isinstance(d, int) else 2 for d in i.shape]))
        feed[i.name] = np.asarray(value > 0) if i.type == "tensor(bool)" else value.astype(np.float32)
    expected = first.run(None, feed)
    for kind, other in (("folded", second), ("not folded", session(palettized))):
        for x, y in zip(expected, other.run(None, feed)):
            # Fused kernels of the first may round otherwise than single ones.
            limit = 1e-6 if kind == "folded" else 1e-5 * max(1, np.abs(x).max())
            if not np.abs(x - y).max() <= limit:
                return f"outputs ({kind}) differ by {np.abs(x - y).max()}"
    return None


report(check)
