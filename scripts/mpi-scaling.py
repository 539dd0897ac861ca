#!/usr/bin/env python3
"""Measures data-parallel training with 1 to N processes on this machine, and predicts it for clusters.

usage: mpi-scaling.py --slq PATH [--model NAME:BATCH:STEPS ...] [--setups 1x1,1x2,2x1,4x1] [--rounds 5] [--json FILE]
       mpi-scaling.py --predict

PATH is a program built with --features mpi. A set-up is a number of processes times the threads of each. All set-ups run once in
every round, one after the other; the table (docs/cluster.md) gives the median over the rounds, the spread (largest less
smallest, by the median), and the median over the rounds of the ratio to the one process with the most threads in the same round. The
table of predictions needs no program: it takes the images a second of one machine from the README.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
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
    """Images a second of the training alone, as its report says; one process is started without mpirun."""
    call = []
    if ranks > 1:
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
    parser.add_argument("--setups", default="1x1,1x2,2x1,4x1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--predict", action="store_true")
    args = parser.parse_args()
    if args.predict:
        predict()
        return
    if args.slq is None:
        parser.error("name a program with --slq, or ask for --predict")
    setups = [tuple(map(int, text.split("x"))) for text in args.setups.split(",")]
    # One process on the most threads.
    base = max((s for s in setups if s[0] == 1), default=(1, 0))
    rows = []
    print(f"| network | images a step | processes x threads | images/s, median | spread | of 1 x {base[1]} |")
    print("|---|---|---|---|---|---|")
    for text in args.model or ["lenet:64:200", "resnet20:64:20", "alexnet:32:6"]:
        model, batch, steps = text.split(":")
        speeds = {setup: [] for setup in setups}
        loads = []
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(args.rounds):
                loads.append(os.getloadavg()[0])
                for ranks, threads in setups:
                    speed = measure(args.slq.resolve(), model, int(batch), int(steps), ranks, threads, folder)
                    speeds[ranks, threads].append(speed)
        # Ratios within a round: what else the machine does changes from round to round.
        alone = speeds.get(base, [])
        for (ranks, threads), found in speeds.items():
            median = statistics.median(found)
            spread = (max(found) - min(found)) / median
            ratio = statistics.median(own / one for own, one in zip(found, alone)) if alone else float("nan")
            rows.append({"model": model, "ranks": ranks, "threads": threads, "images_per_second": found, "loads": loads})
            print(f"| {model} | {batch} | {ranks} x {threads} | {median:.1f} | {100 * spread:.0f} % | {ratio:.2f} |", flush=True)
        print(f"{model}: load of the machine before the rounds {min(loads):.1f} to {max(loads):.1f}", file=sys.stderr)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
