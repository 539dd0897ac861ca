"""Runs two Caffe nets in OpenCV on the same random input and fails where their outputs differ.

Usage: compare.py A.prototxt A.caffemodel B.prototxt B.caffemodel
"""
import re
import sys

import cv2
import numpy as np


def outputs(net_file, model_file, data):
    net = cv2.dnn.readNetFromCaffe(net_file, model_file)
    net.setInput(data)
    names = sorted(n for n in net.getUnconnectedOutLayersNames() if not n.endswith("silence"))
    return net.forward(names)


def main():
    text = open(sys.argv[1]).read()
    block = re.search(r"input_param.*?\}\s*\}", text, re.S).group(0)
    shape = [int(d) for d in re.findall(r"dim:\s*(\d+)", block)]
    data = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    a, b = outputs(sys.argv[1], sys.argv[2], data), outputs(sys.argv[3], sys.argv[4], data)
    assert len(a) == len(b), f"{len(a)} and {len(b)} outputs"
    for x, y in zip(a, b):
        assert x.shape == y.shape, f"{x.shape} and {y.shape}"
        assert np.isfinite(x).all(), "not finite"
        difference = np.abs(x - y).max()
        assert difference <= 1e-6 * max(1.0, np.abs(x).max()), f"outputs differ by {difference}"


main()
