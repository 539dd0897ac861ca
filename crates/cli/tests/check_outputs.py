"""Opens a caffemodel with OpenCV and compares its outputs, number by number.

usage: check_outputs.py PROTOTXT CAFFEMODEL INPUT.npy OUTPUT.npy
"""
import sys

import cv2
import numpy as np

prototxt, caffemodel, inputs, outputs = sys.argv[1:5]
net = cv2.dnn.readNetFromCaffe(prototxt, caffemodel)
net.setInput(np.load(inputs))
theirs, ours = net.forward(), np.load(outputs)
ours = ours.reshape(theirs.shape)
# What tells images apart is the spread of the outputs, which can be far smaller than the outputs themselves.
spread = float(ours.std(axis=0).max())
assert spread > 0, "all images have the same outputs"
largest = float(np.abs(theirs - ours).max())
assert largest < 1e-3 * spread + 1e-6, f"outputs differ by {largest:.2e}, their spread is {spread:.2e}"
print(f"OpenCV: {ours.size} outputs differ by {largest:.1e} at most")
