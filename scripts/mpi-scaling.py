#!/usr/bin/env python3
"""Measures data-parallel training with 1 to N processes on this machine, and predicts it for clusters.

usage: mpi-scaling.py --slq PATH [--model NAME:BATCH:STEPS ...] [--ranks 1,2,4] [--repeat 3] [--json FILE]
       mpi-scaling.py --predict

PATH is a program built with --features mpi. Every number of processes is timed with as many threads in each as its share of
the cores; --repeat runs alternate, and the best of each counts. The table of predictions needs no program: it takes the
images a second of one machine from the README and the network's figures from the command line (docs/cluster.md).
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile

# Network, parameters, images a second of one machine of two cores (README; VGG-16 scaled from AlexNet by
# multiply-accumulates: 15.5 and 0.72 billion an image), images of a step for each machine.
NETWORKS = [("AlexNet", 60_965_224, 42.7, 32), ("VGG-16", 138_357_544, 42.7 * 0.72 / 15.5, 32), ("ResNet-18", 11_689_512, 23.6, 32)]
MACHINES = (8, 16, 32, 64)
# Bits a second, and the seconds of one message.
NETS = [("10 Gbit/s", 10e9, 30e-6), ("100 Gbit/s", 100e9, 3e-6)]


def step(parameters, speed, images, n, bits, latency):
    """Seconds of a step: compute, and the sum of the gradients around a ring.

    The step's message count is that of the ring (2 (N - 1) for each bucket of 4 MiB), of the gather of figures (log2 N),
    not hidden behind the computation: the worst case.
    """
    compute = images / speed
    if n == 1:
        return compute
    volume = 4 * parameters * 2 * (n - 1) / n * 8 / bits
    buckets = max(1, parameters // (1 << 20))
    messages = 2 * (n - 1) * buckets + (n - 1).bit_length()
    return compute + volume + messages * latency


def predict():
    print(f"{'network':10} {'network speed':12} " + " ".join(f"{n:>12}" for n in MACHINES))
    for name, parameters, speed, images in NETWORKS:
        for net, bits, latency in NETS:
            cells = []
            for n in MACHINES:
                seconds = step(parameters, speed, images, n, bits, latency)
                total = n * images / seconds
                cells.append(f"{total:6.0f} ({100 * total / (n * speed):3.0f} %)")
            print(f"{name:10} {net:12} " + " ".join(f"{c:>12}" for c in cells))


def measure(slq, model, batch, steps, ranks, threads, folder):
    """Images a second of the training alone, as its report says."""
    call = []
    if ranks > 0:
        call = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)]
        if os.geteuid() == 0:
            call.insert(1, "--allow-run-as-root")
    out = pathlib.Path(folder, "out.onnx")
    call += [str(slq), "train", f"zoo:{model}", "--data", "mnist-10k", "--test-subset", "::100", "--json", "--quiet"]
    call += ["--no-verify", "--batch", str(batch), "--iterations", str(steps), "--lr", "0.001", "--threads", str(threads)]
    done = subprocess.run([*call, "-o", str(out)], capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(call)}\n{done.stderr}")
    return steps * batch / json.loads(done.stdout)["seconds"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slq", type=pathlib.Path)
    parser.add_argument("--model", action="append", help="default: lenet:64:200, resnet20:64:20 and alexnet:32:6")
    parser.add_argument("--ranks", default="1,2,3,4")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--predict", action="store_true")
    args = parser.parse_args()
    if args.predict:
        predict()
        return
    if args.slq is None:
        parser.error("name a program with --slq, or ask for --predict")
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    print(f"{cores} cores; load before the first run: {load:.1f} (above 0.5 the figures are those of a busy machine)")
    rows = []
    for text in args.model or ["lenet:64:200", "resnet20:64:20", "alexnet:32:6"]:
        model, batch, steps = text.split(":")
        # 0 ranks: one process without mpirun on all cores.
        setups = [(0, cores)] + [(n, max(1, cores // n)) for n in map(int, args.ranks.split(","))]
        best = dict.fromkeys(setups, 0.0)
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(args.repeat):
                for ranks, threads in setups:
                    speed = measure(args.slq.resolve(), model, int(batch), int(steps), ranks, threads, folder)
                    best[ranks, threads] = max(best[ranks, threads], speed)
        alone = best[0, cores]
        for (ranks, threads), speed in best.items():
            rows.append({"model": model, "ranks": ranks, "threads": threads, "images_per_second": speed, "load": load})
            name = f"{ranks} processes x {threads} threads" if ranks else f"no mpirun, {threads} threads"
            print(f"{model:10} {name:28} {speed:9.1f} images/s {speed / alone:6.2f}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
