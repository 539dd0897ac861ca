"""Runs two ONNX files with onnxruntime on random inputs.

usage: check_runs.py FIRST SECOND MOST

Checks: onnx.checker passes for the second; its outputs differ from the first's by at most MOST of the largest.
"""
import sys

import numpy as np
import onnx
import onnxruntime as ort

first, second, most = sys.argv[1:4]
onnx.checker.check_model(second)
rng = np.random.default_rng(3)
feed, found = None, []
for path in (first, second):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    if feed is None:
        shape = lambda i: [d if isinstance(d, int) else 2 for d in i.shape]
        feed = {i.name: rng.standard_normal(shape(i)).astype(np.float32) for i in session.get_inputs()}
    found.append(session.run(None, feed))
for a, b in zip(*found):
    difference = float(np.abs(a - b).max() / np.abs(a).max())
    assert difference <= float(most), f"outputs differ by {difference:.1e}"
    print(f"onnxruntime: largest output difference {difference:.1e}")
