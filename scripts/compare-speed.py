#!/usr/bin/env python3
"""Compares how fast two ONNX networks run, in turns: `slq bench` and onnxruntime, forward, on random images.

usage: compare-speed.py BEFORE.onnx AFTER.onnx [--slq PATH] [--batch N] [--threads N] [--rounds N]

Prints images a second of both (the median over the rounds) and the ratio. Saved multiply-adds that save no time show as
a ratio near 1.
"""
import argparse
import json
import statistics
import subprocess
import time

import numpy as np
import onnxruntime as ort


def slq_rate(options, path):
    command = [options.slq, "bench", path, "--batch", str(options.batch), "--threads", str(options.threads)]
    done = subprocess.run([*command, "--seconds", "1", "--json", "--quiet"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["forward"]["images_per_second"]


def session(path, threads):
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 3
    return ort.InferenceSession(path, settings, providers=["CPUExecutionProvider"])


def onnxruntime_rate(net, batch):
    entry = net.get_inputs()[0]
    shape = [batch, *entry.shape[1:]]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    net.run(None, {entry.name: x})
    times, began = [], time.perf_counter()
    while time.perf_counter() - began < 1 or len(times) < 3:
        start = time.perf_counter()
        net.run(None, {entry.name: x})
        times.append(time.perf_counter() - start)
    return batch / statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--slq", default="target/release/slq")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    paths = [options.before, options.after]
    nets = [session(path, options.threads) for path in paths]
    engines = {
        "slq": [lambda path=path: slq_rate(options, path) for path in paths],
        "onnxruntime": [lambda net=net: onnxruntime_rate(net, options.batch) for net in nets],
    }
    rates = {name: ([], []) for name in engines}
    for _ in range(options.rounds):
        for name, pair in engines.items():
            for found, measure in zip(rates[name], pair):
                found.append(measure())
    print("| engine | images/s before | after | ratio |\n|---|---|---|---|")
    for name, pair in rates.items():
        before, after = map(statistics.median, pair)
        print(f"| {name} | {before:.0f} | {after:.0f} | {after / before:.2f} |")


if __name__ == "__main__":
    main()
