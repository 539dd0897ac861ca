"""Opens palettized models with onnx and onnxruntime and compares them with their dense twins.

Arguments: pairs of files, dense then palettized. Exits with 1 and a line for each failure.
"""

import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort


def session(path, optimized=None):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if optimized:
        options.optimized_model_filepath = optimized
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def check(dense, palettized):
    onnx.checker.check_model(palettized, full_check=True)
    with tempfile.NamedTemporaryFile(suffix=".onnx") as a, tempfile.NamedTemporaryFile(suffix=".onnx") as b:
        first, second = session(dense, a.name), session(palettized, b.name)
        ops = [[n.op_type for n in onnx.load(f.name).graph.node] for f in (a, b)]
    if ops[0] != ops[1]:
        return f"not folded: {ops[1]} in place of {ops[0]}"
    rng = np.random.default_rng(1)
    feed = {i.name: rng.standard_normal([d if isinstance(d, int) else 2 for d in i.shape]).astype(np.float32)
            for i in first.get_inputs()}
    for x, y in zip(first.run(None, feed), second.run(None, feed)):
        if not np.abs(x - y).max() <= 1e-6:
            return f"outputs differ by {np.abs(x - y).max()}"
    return None


failed = False
for dense, palettized in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        problem = check(dense, palettized)
    except Exception as error:  # each pair is reported
        problem = str(error)
    if problem:
        failed = True
        print(f"{palettized}: {problem}", file=sys.stderr)
sys.exit(failed)
