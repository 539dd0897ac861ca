#!/usr/bin/env python3
"""Measures calibration on a network and a zip of labelled images; labels serve the final figures alone.

    scripts/calibration-figures.py MODEL IMAGES [--seeds N] [--images N] [--only TEXT] [--set NAME='FLAGS' ...]

The images are cut in two halves (every other one). Each half calibrates for the other, and results are pooled over both
ways and all seeds: mean KL divergence from the float network on the half not calibrated on, agreement, and the paired
difference of top-1 with its standard error over images. Prints a Markdown table; SLQ names the program
(default: target/release/slq). Needs numpy.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SLQ = os.environ.get("SLQ", str(ROOT / "target/release/slq"))
BITS = [
    ("4 bits, tensor", "--bits 4"),
    ("4 bits, channel", "--bits 4 --granularity channel"),
    ("3 bits, tensor", "--bits 3"),
    ("3 bits, channel", "--bits 3 --granularity channel"),
    ("2 bits, tensor", "--bits 2"),
    ("2 bits, channel", "--bits 2 --granularity channel"),
]


def slq(*args):
    done = subprocess.run([SLQ, *map(str, args), "--json", "--quiet"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"slq {' '.join(map(str, args))}: {done.stderr}")
    return json.loads(done.stdout)


def halves(images, folder):
    """Two zips with every other image of each class."""
    source = zipfile.ZipFile(images)
    names = sorted(n for n in source.namelist() if n.lower().endswith((".jpg", ".jpeg", ".png")))
    paths = []
    for half in range(2):
        path = folder / f"half{half}.zip"
        with zipfile.ZipFile(path, "w") as out:
            for name in names[half::2]:
                out.writestr(name, source.read(name))
        paths.append(path)
    return paths


def predictions(model, data, folder, given=()):
    """For each image: whether its largest output is its label."""
    found = folder / "predictions.npy"
    figures = slq("eval", model, "--data", data, "--predictions", found, *given)
    labels = [int(Path(n).parent.name.split("_")[0]) for n in sorted(zipfile.ZipFile(data).namelist())]
    right = np.load(found) == np.array(labels)
    assert abs(right.mean() - figures["top1"]) < 1e-9, "labels are not those of the folders"
    return right.astype(float)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("images")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images-used", type=int, default=128)
    parser.add_argument("--only", default="")
    parser.add_argument("--set", action="append", default=[], help="NAME=FLAGS, in place of the usual settings")
    parser.add_argument("--preprocessing", default="", help="flags for eval and compare, where the file does not say it")
    args = parser.parse_args()
    settings = [tuple(s.split("=", 1)) for s in args.set] or [b for b in BITS if args.only in b[0]]
    print("| setting | top-1 | difference | KL | agreement | seconds | bytes of .onnx | bytes of .slq |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = halves(args.images, folder)
        given = shlex.split(args.preprocessing)
        float_right = [predictions(args.model, part, folder, given) for part in parts]
        for label, flags in settings:
            gains, kl, agree, seconds, onnx, packed = [], [], [], [], 0, 0
            for seed in range(args.seeds):
                for way in range(2):
                    out, small = folder / "small.onnx", folder / "small.slq"
                    began = time.time()
                    slq("compress", args.model, "--calibrate", parts[way], "--calibration-images", args.images_used,
                        *shlex.split(flags), "--seed", seed, "-o", out, "-o", small,
                        "--run-dir", folder / f"run{time.time_ns()}", *given)
                    seconds.append(time.time() - began)
                    onnx, packed = out.stat().st_size, small.stat().st_size
                    other = parts[1 - way]
                    beside = slq("compare", args.model, out, "--calibrate", other, *given)
                    kl.append(beside["kl"])
                    agree.append(beside["agreement"])
                    gains.append((way, predictions(out, other, folder) - float_right[1 - way]))
            by_image = [np.mean([g for w, g in gains if w == way], axis=0) for way in range(2)]
            pooled = np.concatenate(by_image)
            base = np.concatenate([float_right[1], float_right[0]]).mean()
            error = pooled.std(ddof=1) / np.sqrt(len(pooled))
            print(f"| {label} | {100 * (base + pooled.mean()):.1f} | {100 * pooled.mean():+.2f} ± {100 * error:.2f} | "
                  f"{np.mean(kl):.4f} | {100 * np.mean(agree):.1f} | {np.median(seconds):.0f} | {onnx} | {packed} |",
                  flush=True)


if __name__ == "__main__":
    main()
