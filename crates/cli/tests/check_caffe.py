"""Opens a caffemodel with OpenCV and compares its predictions.

usage: check_caffe.py PROTOTXT CAFFEMODEL IMAGES.npz SCALE PREDICTIONS.npy
"""
import sys

import cv2
import numpy as np

prototxt, caffemodel, images, scale, predictions = sys.argv[1:6]
net = cv2.dnn.readNetFromCaffe(prototxt, caffemodel)
images = np.load(images)["x_test"].astype(np.float32) * np.float32(float(scale))
if images.ndim == 3:
    images = images[:, None]
elif images.shape[-1] in (1, 3):
    images = images.transpose(0, 3, 1, 2)
images = np.ascontiguousarray(images)
ours = np.load(predictions)
theirs = []
for i in range(0, len(images), 200):
    net.setInput(images[i:i + 200])
    out = net.forward()
    theirs.append(out.reshape(len(images[i:i + 200]), -1).argmax(1))
different = int((np.concatenate(theirs) != ours).sum())
assert different == 0, f"{different} of {len(ours)} predictions differ"
print(f"OpenCV: {len(ours)} predictions equal")
