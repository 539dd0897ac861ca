#!/usr/bin/env python3
"""Measures what the even steps of `--runtime ort` cost: top-1 of a network in onnxruntime, its dense layers at 4 bits in blocks of 32.

    python scripts/ort-accuracy.py SLQ DATASET MODEL.onnx... [--bits 4] [--images 10000] [--retrain]

Rows: the float network; its weights clustered, then calibrated on training images without labels, then (`--retrain`) trained again,
each with `--runtime ort`; and what onnxruntime's MatMulNBitsQuantizer makes of it (blocks of 32, symmetric). Convolutions stay floats
in all rows. Each file runs with float32 inputs of its layers (accuracy level 1) and with the default (level 4, 8 bits). Differences to
the float network are paired, image by image, with their standard errors. Images are pixels over 255.
Needs: pip install onnx onnxruntime onnx-ir sympy numpy
"""
import argparse
import importlib.util
import pathlib
import subprocess
import tempfile

import numpy as np
import onnx

HERE = pathlib.Path(__file__).resolve().parent
found = importlib.util.spec_from_file_location("ort_packed", HERE / "ort-packed.py")
ort_packed = importlib.util.module_from_spec(found)
found.loader.exec_module(ort_packed)


def test_images(slq, dataset, count, folder):
    """Pixels over 255 and labels of the test part."""
    out = folder / "images.npz"
    subprocess.run([slq, "convert", dataset, out, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    with np.load(out) as arrays:
        images, labels = arrays["x_test"][:count], arrays["y_test"][:count]
    images = images.reshape(len(images), -1, *images.shape[-2:]).astype(np.float32) / 255
    return images, labels.ravel()


def right(path, level, images, labels):
    """For each image whether the network's first guess is its label."""
    opened = ort_packed.session(path, level)
    name = opened.get_inputs()[0].name
    scores = [opened.run(None, {name: images[i : i + 100]})[0] for i in range(0, len(images), 100)]
    return np.concatenate(scores).argmax(1) == labels


def skipped(path):
    """Flags that leave convolutions as they are."""
    model = onnx.load(path)
    names = {n.input[1] for n in model.graph.node if n.op_type == "Conv"}
    return [flag for name in sorted(names) for flag in ("--layers", f"{name}=skip")]


def check(slq, dataset, model, args, folder):
    dense, other = folder / "dense.onnx", folder / "other.onnx"
    subprocess.run([slq, "convert", model, dense, "--dense", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    ort_packed.by_onnxruntime(dense, other, args.bits)
    rows = [("onnxruntime's quantizer", other)]
    data = ["--data", dataset, "--scale", str(1 / 255)]
    ways = {"--method kmeans": ["--method", "kmeans"], "calibrated": ["--method", "calibrate", *data]}
    if args.retrain:
        ways["trained again (slq)"] = ["--method", "slq", *data]
    for name, flags in ways.items():
        out = folder / f"{len(rows)}.onnx"
        command = [slq, "compress", dense, "--bits", str(args.bits), "--runtime", "ort", *skipped(dense), *flags, "-o", out, "--quiet"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)
        rows.append((f"`--runtime ort`, {name}", out))
    images, labels = test_images(slq, dataset, args.images, folder)
    float_right = right(dense, "default", images, labels)
    print(f"\n{model}: float32 {100 * float_right.mean():.2f} % of {len(images)} images, {dense.stat().st_size} bytes\n")
    print("| file | bytes | level 1 | difference | default level 4 | difference |")
    print("|---|---|---|---|---|---|")
    for name, path in rows:
        cells = []
        for level in ("1", "default"):
            found = right(path, level, images, labels)
            pairs = found.astype(float) - float_right
            error = pairs.std() / len(pairs) ** 0.5
            cells += [f"{100 * found.mean():.2f}", f"{100 * pairs.mean():+.2f} ± {100 * error:.2f}"]
        print(f"| {name} | {path.stat().st_size} | {' | '.join(cells)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slq", help="the program", type=pathlib.Path)
    parser.add_argument("dataset")
    parser.add_argument("models", nargs="+", metavar="MODEL.onnx")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--retrain", action="store_true")
    args = parser.parse_args()
    for model in args.models:
        with tempfile.TemporaryDirectory() as folder:
            check(args.slq.resolve(), args.dataset, pathlib.Path(model).resolve(), args, pathlib.Path(folder))


if __name__ == "__main__":
    main()
