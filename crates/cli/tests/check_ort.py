"""Opens a file of `--runtime ort` with onnxruntime.

usage: check_ort.py PACKED X.npy Y.npy FUSED

Checks: onnx.checker passes; onnxruntime fuses FUSED products into MatMulNBits and leaves no DequantizeLinear; with float32 products
its outputs for X differ from Y by at most 1e-4 of the largest, with its default, which rounds inputs to 8 bits, by at most 5 %.
"""
import os
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort

packed, x, y, fused = sys.argv[1:5]
onnx.checker.check_model(packed, full_check=True)
x, y = np.load(x), np.load(y)
for level, most in (("1", 1e-4), ("4", 5e-2)):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", level)
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = os.path.join(folder, "optimized.onnx")
        session = ort.InferenceSession(packed, options, providers=["CPUExecutionProvider"])
        left = [n.op_type for n in onnx.load(options.optimized_model_filepath).graph.node]
    assert left.count("MatMulNBits") == int(fused) and "DequantizeLinear" not in left, left
    found = session.run(None, {session.get_inputs()[0].name: x})[0]
    difference = float(np.abs(found - y).max() / np.abs(y).max())
    assert difference <= most, f"level {level}: outputs differ by {difference:.1e}"
    print(f"level {level}: {fused} products fused, largest output difference {difference:.1e}")
