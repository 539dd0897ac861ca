"""Opens a palettized ONNX file with independent programs and compares it with its dense twin.

usage: check_onnx.py PALETTIZED DENSE [IMAGES.npz SCALE PREDICTIONS.npy]

Checks: onnx.checker passes; onnxruntime folds the unpacking away at load; outputs differ by at most 1e-4 from those
of the dense file; with images, the top-1 of every image equals the given predictions.
"""
import os
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort


def session(path, optimized=None):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    if optimized:
        options.optimized_model_filepath = optimized
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


palettized, dense = sys.argv[1:3]
onnx.checker.check_model(palettized, full_check=True)
with tempfile.TemporaryDirectory() as folder:
    folded = os.path.join(folder, "folded.onnx")
    small = session(palettized, folded)
    left = {n.op_type for n in onnx.load(folded).graph.node}
    assert not left & {"BitShift", "Gather", "BitwiseAnd"}, f"not folded: {left}"
large = session(dense)
name = small.get_inputs()[0].name
shape = [d if isinstance(d, int) else 8 for d in small.get_inputs()[0].shape]
x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
difference = float(np.abs(small.run(None, {name: x})[0] - large.run(None, {name: x})[0]).max())
assert difference <= 1e-4, f"outputs differ by {difference}"
print(f"onnxruntime: folded, largest output difference {difference:.2e}")

if len(sys.argv) > 3:
    data = np.load(sys.argv[3])
    images = data["x_test"].astype(np.float32) * np.float32(float(sys.argv[4]))
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[-1] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    images = np.ascontiguousarray(images)
    ours = np.load(sys.argv[5])
    theirs = np.concatenate([small.run(None, {name: images[i:i + 500]})[0].argmax(1) for i in range(0, len(images), 500)])
    different = int((ours != theirs).sum())
    assert different == 0, f"{different} of {len(ours)} predictions differ"
    print(f"onnxruntime: {len(ours)} predictions equal")
