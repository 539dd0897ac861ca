#!/usr/bin/env python3
"""Measures the rows of docs/deploy.md that a Linux machine can measure: for each runtime that is installed, whether it opens a
palettized ONNX file, whether its outputs are those of the dense file, and the memory it takes.

    python scripts/deploy-table.py SLQ [--model zoo:resnet18] [--bits 4]

Memory is the growth of the process's resident set from after the import of the runtime to after loading the model and running it
three times at batch 1, in a process of its own, with freed pages given back. ncnn and MNN read files of their own: their converters make one first, in a process apart, as float32.
Uses what is installed of: onnxruntime, openvino, opencv-python-headless, ncnn with pnnx, MNN.
"""
import argparse
import ctypes
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np


def resident():
    # Pages that were freed after loading do not count.
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def with_onnxruntime(path, x):
    import onnxruntime

    yield onnxruntime.__version__
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    while True:
        yield session.run(None, {session.get_inputs()[0].name: x})[0]


def with_openvino(path, x):
    import openvino

    yield openvino.__version__.split("-")[0]
    core = openvino.Core()
    model = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"})
    while True:
        yield model(x)[0]


def with_opencv(path, x):
    import cv2

    yield cv2.__version__
    cv2.setNumThreads(1)
    net = cv2.dnn.readNetFromONNX(path)
    while True:
        net.setInput(x)
        yield net.forward()


def with_ncnn(path, x):
    import ncnn

    path = pathlib.Path(path)
    shape = ",".join(str(n) for n in x.shape)
    command = [pathlib.Path(sys.executable).with_name("pnnx"), path, f"inputshape=[{shape}]f32", "fp16=0"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=path.parent)
    made = path.with_suffix("")
    yield ncnn.__version__
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_fp16_storage = net.opt.use_fp16_packed = net.opt.use_fp16_arithmetic = False
    net.load_param(f"{made}.ncnn.param")
    net.load_model(f"{made}.ncnn.bin")
    while True:
        extractor = net.create_extractor()
        extractor.input(net.input_names()[0], ncnn.Mat(x[0]).clone())
        yield np.array(extractor.extract(net.output_names()[0])[1])


# The command `mnnconvert` installs a package and reports its use over the network; what it calls does not.
MNN_CONVERT = "import sys, MNN, _tools; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"


def with_mnn(path, x):
    import MNN

    out = pathlib.Path(path).with_suffix(".mnn")
    command = [sys.executable, "-c", MNN_CONVERT, "-f", "ONNX", "--modelFile", path, "--MNNModel", out, "--bizCode", "slq"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    yield MNN.version()
    net = MNN.Interpreter(str(out))
    session = net.createSession({"numThread": 1, "precision": "high"})
    given, caffe = net.getSessionInput(session), MNN.Tensor_DimensionType_Caffe
    while True:
        given.copyFrom(MNN.Tensor(x.shape, MNN.Halide_Type_Float, x.ravel(), caffe))
        net.runSession(session)
        made = net.getSessionOutput(session)
        here = MNN.Tensor(made.getShape(), MNN.Halide_Type_Float, np.zeros(made.getShape(), np.float32), caffe)
        made.copyToHostTensor(here)
        yield np.array(here.getData())


RUNTIMES = {
    "onnxruntime": with_onnxruntime,
    "OpenVINO": with_openvino,
    "OpenCV": with_opencv,
    "ncnn": with_ncnn,
    "MNN": with_mnn,
}


def measure(runtime, path, inputs):
    """In the child: one JSON object on stdout."""
    x = np.load(inputs)
    work = RUNTIMES[runtime](path, x)
    version = next(work)
    before = resident()
    for _ in range(3):
        y = next(work)
    print(json.dumps({"version": version, "bytes": resident() - before, "outputs": np.asarray(y).ravel().tolist()}))


def child(runtime, path, inputs):
    command = [sys.executable, __file__, "--measure", runtime, str(path), str(inputs)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        missing = "ModuleNotFoundError" in done.stderr
        said = [line for line in lines if "error" in line.lower()] or lines
        return {"missing": missing, "error": said[-1].lstrip("> ").replace("|", "/") if said else f"it ended with status {done.returncode}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def megabytes(count):
    return f"{count / 1e6:.1f} MB"


def table(slq, model, bits):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        small, dense, packed, inputs = (folder / n for n in ("small.onnx", "dense.onnx", "small.slq", "x.npy"))
        quiet = ["--quiet"]
        compress = [slq, "compress", model, "--method", "kmeans", "--bits", str(bits), "-o", small, "-o", packed]
        subprocess.run([*compress, *quiet], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([slq, "convert", small, dense, "--dense", *quiet], check=True, stdout=subprocess.DEVNULL)
        shape = input_shape(slq, small)
        np.save(inputs, np.random.default_rng(0).standard_normal(shape).astype(np.float32))
        print(f"{model}, {bits} bits: {megabytes(dense.stat().st_size)} dense, {megabytes(small.stat().st_size)} palettized, "
              f"{megabytes(packed.stat().st_size)} as .slq\n")
        print("| runtime | opens the palettized file | largest difference of outputs | memory, palettized | memory, dense |")
        print("|---|---|---|---|---|")
        for runtime in RUNTIMES:
            a, b = child(runtime, small, inputs), child(runtime, dense, inputs)
            if b.get("missing"):
                print(f"| {runtime} | not installed | | | |")
                continue
            name = f"{runtime} {b.get('version', '')}".strip()
            if "error" in b:
                print(f"| {name} | dense file: {b['error'][:120]} | | | |")
                continue
            if "error" in a:
                print(f"| {name} | no: {a['error'][:120]} | | | {megabytes(b['bytes'])} |")
                continue
            left, right = np.array(a["outputs"]), np.array(b["outputs"])
            worst = np.abs(left - right).max() / max(1e-30, np.abs(right).max())
            print(f"| {name} | yes | {worst:.1e} | {megabytes(a['bytes'])} | {megabytes(b['bytes'])} |")
        bench = [slq, "bench", packed, "--batch", "1", "--only-packed", "--json", "--threads", "1", *quiet]
        done = json.loads(subprocess.run(bench, check=True, capture_output=True, text=True).stdout)
        print(f"| slq (.slq) | yes | | {megabytes(done['packed']['peak_resident_bytes'])} (peak of the process) | |")


def input_shape(slq, path):
    """The first input's shape with a batch of 1."""
    import onnxruntime

    dims = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).get_inputs()[0].shape
    return [d if isinstance(d, int) and d > 0 else 1 for d in dims]


def main():
    if sys.argv[1:2] == ["--measure"]:
        return measure(*sys.argv[2:5])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slq", help="the program")
    parser.add_argument("--model", default="zoo:resnet18")
    parser.add_argument("--bits", type=int, default=4)
    args = parser.parse_args()
    table(args.slq, args.model, args.bits)


if __name__ == "__main__":
    main()
