#!/usr/bin/env python3
"""Measures ONNX files of `--runtime ort` in onnxruntime: are the weights fused, what memory do they take, how long does an input
take, and do outputs agree with slq's engine and with the float network?

    python scripts/ort-packed.py SLQ MODEL.onnx... [--bits 4] [--dense-part] [--rounds 30]

Beside the file stand the float32 network and what onnxruntime's own MatMulNBitsQuantizer makes of it (blocks of 32, symmetric).
Memory is the growth of the resident set of a process of its own from the import of onnxruntime to after three runs, with freed
pages given back. Times are the median of runs in turns, one thread, batch 1. `--dense-part` measures what begins at the first Gemm.
Needs: pip install onnx onnxruntime onnx-ir sympy numpy
"""
import argparse
import ctypes
import json
import logging
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

LEVEL = "session.qdq_matmulnbits_accuracy_level"


def resident():
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def session(path, level, optimized=None):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if level != "default":
        options.add_session_config_entry(LEVEL, level)
    if optimized:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def inputs_of(opened, seed=0):
    random = np.random.default_rng(seed)
    shape = lambda i: [d if isinstance(d, int) and d > 0 else 1 for d in i.shape]  # noqa: E731
    return {i.name: random.standard_normal(shape(i)).astype(np.float32) for i in opened.get_inputs()}


def in_child(path, level):
    """In a process of its own: bytes that the session takes."""
    import onnxruntime  # noqa: F401

    before = resident()
    opened = session(path, level)
    x = inputs_of(opened)
    for _ in range(3):
        opened.run(None, x)
    print(json.dumps(resident() - before))


def memory(path, level):
    command = [sys.executable, __file__, "--measure", str(path), level]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def times(sessions, rounds):
    """Median seconds of a run, sessions in turns."""
    x = inputs_of(sessions[0])
    found = [[] for _ in sessions]
    for _ in range(rounds):
        for opened, all_times in zip(sessions, found):
            begin = time.perf_counter()
            opened.run(None, x)
            all_times.append(time.perf_counter() - begin)
    return [float(np.median(t)) for t in found]


def dense_part(path, out):
    """The network from the first Gemm on."""
    import onnx.utils

    model = onnx.load(path)
    first = next(n for n in model.graph.node if n.op_type == "Gemm")
    onnx.utils.extract_model(str(path), str(out), [first.input[0]], [o.name for o in model.graph.output])


def by_onnxruntime(path, out, bits, block=32):
    """What onnxruntime's own quantizer makes of a float network; a Gemm is a MatMul and an Add first."""
    import onnx
    from onnx import helper, numpy_helper
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    logging.disable(logging.INFO)
    model = onnx.load(path)
    weights = {w.name: w for w in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        turned = any(a.name == "transB" and a.i for a in node.attribute)
        if node.op_type != "Gemm" or node.input[1] not in weights:
            nodes.append(node)
            continue
        weight = weights[node.input[1]]
        if turned:
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).T.copy(), weight.name))
        last = len(node.input) < 3
        product = node.output[0] if last else f"{node.output[0]}.product"
        nodes.append(helper.make_node("MatMul", list(node.input[:2]), [product]))
        if not last:
            nodes.append(helper.make_node("Add", [product, node.input[2]], list(node.output)))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    quantizer = MatMulNBitsQuantizer(model, bits=bits, block_size=block, is_symmetric=True)
    quantizer.process()
    quantizer.model.save_model_to_file(str(out))


def by_engine(slq, path, x, folder):
    given, out = folder / "x.npy", folder / "y.npy"
    np.save(given, next(iter(x.values())))
    subprocess.run([slq, "run", path, "--input", given, "-o", out, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return np.load(out)


def worst(a, b):
    return float(np.abs(a - b).max() / np.abs(b).max())


def check(slq, model, args, folder):
    import onnx

    dense, packed, other = (folder / f"{n}.onnx" for n in ("dense", "packed", "other"))
    if args.dense_part:
        dense_part(model, dense)
    else:
        subprocess.run([slq, "convert", model, dense, "--dense", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    compress = [slq, "compress", dense, "--method", "kmeans", "--bits", str(args.bits), "-o", packed, "--runtime", "ort"]
    subprocess.run([*compress, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    if args.keep:
        args.keep.write_bytes(packed.read_bytes())
    by_onnxruntime(dense, other, args.bits)
    fused = []
    for level in ("default", "1"):
        session(packed, level, folder / "optimized.onnx")
        names = [n.op_type for n in onnx.load(folder / "optimized.onnx").graph.node]
        fused.append((names.count("MatMulNBits"), names.count("DequantizeLinear")))
    print(f"\n{model}, {args.bits} bits: {dense.stat().st_size} bytes dense, {packed.stat().st_size} packed; MatMulNBits and "
          f"DequantizeLinear after optimization: {fused}\n")
    rows = [("float32", dense, "default"), ("--runtime ort, level 1 (float32 inputs)", packed, "1"),
            ("--runtime ort, default level 4 (inputs rounded to 8 bits)", packed, "default"),
            ("onnxruntime's quantizer", other, "default")]
    bytes_of = [memory(path, level) for _, path, level in rows]
    opened = [session(path, level) for _, path, level in rows]
    seconds = times(opened, args.rounds)
    x = inputs_of(opened[0])
    outputs = [o.run(None, x)[0] for o in opened]
    engine = by_engine(slq, packed, x, folder)
    print("| file | memory | of float32 | time, batch 1 | of float32 | from slq's engine on the packed file | from float32 |")
    print("|---|---|---|---|---|---|---|")
    for (name, _, _), size, second, y in zip(rows, bytes_of, seconds, outputs):
        print(f"| {name} | {size / 1e6:.1f} MB | {size / bytes_of[0]:.2f} | {1e3 * second:.2f} ms | {second / seconds[0]:.2f} | "
              f"{worst(y, engine):.1e} | {worst(y, outputs[0]):.1e} |")


def main():
    if sys.argv[1:2] == ["--measure"]:
        return in_child(*sys.argv[2:4])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slq", help="the program")
    parser.add_argument("models", nargs="+", metavar="MODEL.onnx")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--dense-part", action="store_true", help="measure from the first Gemm on")
    parser.add_argument("--keep", type=pathlib.Path, metavar="ONNX", help="keep the packed file")
    args = parser.parse_args()
    for model in args.models:
        with tempfile.TemporaryDirectory() as folder:
            check(args.slq, model, args, pathlib.Path(folder))


if __name__ == "__main__":
    main()
