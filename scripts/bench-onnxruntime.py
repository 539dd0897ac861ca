#!/usr/bin/env python3
"""Runs packed networks and onnxruntime's float networks in turn and prints the table of speeds, ratios and memory.

usage: bench-onnxruntime.py [--slq PATH] [--rounds 5] [--seconds 1] [--threads 2] [--bits 4] [--nets fc6,lenet,..]
                            [--batches 1,16] [--expand auto|all|none] [--json FILE]

Each network of the zoo (and `fc6`, one layer of 9216 x 4096, the first fully connected one of AlexNet) is clustered by k-means
without data, and stored as `.slq`; its float twin is an ONNX file. Every round measures the packed network (`slq bench
--only-packed`) and onnxruntime, one directly after the other, so that a machine whose speed drifts slows both; ratios are
formed round by round, and medians are printed. A measurement is the median over passes of about `--seconds` on random data.
Memory is the high-water mark of the resident set (VmHWM) of a process that loads the network and runs it; onnxruntime's
is that of its Python process less what it had before the session was made. Weights are fresh: speed does not depend on
them. Needs numpy, onnx and onnxruntime.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NETS = ["fc6", "lenet", "resnet20", "alexnet", "resnet18", "mobilenet-v2"]


# ---- onnxruntime's side, in processes of their own -------------------------------------------------------------------


def high_water():
    """VmHWM of this process in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def measure_onnxruntime(path, batch, seconds, threads):
    """Prints images a second and bytes as JSON."""
    import numpy
    import onnxruntime

    before = high_water()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    wanted = session.get_inputs()[0]
    shape = [batch] + [int(d) for d in wanted.shape[1:]]
    images = numpy.random.default_rng(0).uniform(-0.5, 0.5, shape).astype(numpy.float32)
    feed = {wanted.name: images}
    for _ in range(2):
        session.run(None, feed)
    times, began = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        session.run(None, feed)
        times.append(time.perf_counter() - start)
    speed = batch / statistics.median(times)
    print(json.dumps({"images_per_second": speed, "bytes": high_water() - before}))


# ---- networks --------------------------------------------------------------------------------------------------------


def slq(program, *arguments):
    """Runs the program; its JSON."""
    command = [program, *map(str, arguments), "--json", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def write_fc6(path):
    """One fully connected layer with random weights."""
    import numpy
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = numpy.random.default_rng(0)
    weight = random.normal(0, 0.01, (4096, 9216)).astype(numpy.float32)
    bias = random.normal(0, 0.01, 4096).astype(numpy.float32)
    node = helper.make_node("Gemm", ["x", "fc6.weight", "fc6.bias"], ["y"], name="fc6", transB=1)
    value = lambda name, n: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", n])
    weights = [numpy_helper.from_array(weight, "fc6.weight"), numpy_helper.from_array(bias, "fc6.bias")]
    graph = helper.make_graph([node], "fc6", [value("x", 9216)], [value("y", 4096)], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)


def prepare(args, name, folder):
    """The float ONNX file and the packed file of a network."""
    dense, packed = folder / f"{name}.onnx", folder / f"{name}.slq"
    if name == "fc6":
        write_fc6(dense)
    else:
        slq(args.slq, "convert", f"zoo:{name}", dense)
    slq(args.slq, "compress", dense, "--method", "kmeans", "--bits", args.bits, "-o", packed)
    return dense, packed


# ---- the table -------------------------------------------------------------------------------------------------------


def measure(args, dense, packed, batch):
    """One round: packed, then onnxruntime."""
    flags = ["--only-packed", "--batch", batch, "--seconds", args.seconds, "--threads", args.threads]
    ours = slq(args.slq, "bench", packed, *flags, "--expand", args.expand)["packed"]
    command = [sys.executable, __file__, "--measure", str(dense), "--seconds", str(args.seconds)]
    command += ["--threads", str(args.threads), "--batches", str(batch)]
    theirs = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return ours, theirs


def row(args, name, files, batch):
    """Medians over the rounds of one network and batch."""
    rounds = [measure(args, *files, batch) for _ in range(args.rounds)]
    ratios = [o["images_per_second"] / t["images_per_second"] for o, t in rounds]
    median = lambda values: statistics.median(list(values))
    return {
        "network": name,
        "batch": batch,
        "packed": median(o["images_per_second"] for o, _ in rounds),
        "onnxruntime": median(t["images_per_second"] for _, t in rounds),
        "ratio": median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "packed_mb": median(o["peak_resident_bytes"] or 0 for o, _ in rounds) / 1e6,
        "onnxruntime_mb": median(t["bytes"] for _, t in rounds) / 1e6,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slq", default=str(ROOT / "target" / "release" / "slq"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--nets", default=",".join(NETS))
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--expand", default="auto")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--measure", metavar="ONNX", help=argparse.SUPPRESS)
    args = parser.parse_args()
    batches = [int(b) for b in args.batches.split(",")]
    if args.measure:
        return measure_onnxruntime(args.measure, batches[0], args.seconds, args.threads)
    import onnxruntime

    print(f"onnxruntime {onnxruntime.__version__}, {args.threads} threads, {args.bits} bits, --expand {args.expand}, "
          f"{args.rounds} rounds, {os.cpu_count()} cores\n")
    print("| network | batch | packed, images/s | onnxruntime | ratio | lowest to highest | packed, MB | onnxruntime, MB |")
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.nets.split(","):
            files = prepare(args, name, Path(folder))
            for batch in batches:
                r = row(args, name, files, batch)
                rows.append(r)
                print(f"| {r['network']} | {r['batch']} | {r['packed']:.1f} | {r['onnxruntime']:.1f} | {r['ratio']:.2f} | "
                      f"{r['lowest']:.2f} to {r['highest']:.2f} | {r['packed_mb']:.1f} | {r['onnxruntime_mb']:.1f} |", flush=True)
            for file in files:
                file.unlink()
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
