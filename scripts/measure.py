#!/usr/bin/env python3
"""Makes the results tables: runs `slq` over settings and seeds and prints means with their standard errors.

usage: measure.py PLAN [--slq PATH] [--data DIR] [--out DIR] [--seeds N] [--validation] [--only NAME,..]

PLAN is one of the plans below. Each run's JSON and predictions go to OUT (default target/results/PLAN), and a run
that is already there is not repeated. With --validation a tenth of the training images takes the place of the test
images, and the network is first trained without them ("prepare-validation"): this is how learning rates and orders
were chosen; the test images are for the final table alone.

"difference" is accuracy minus the float reference of the same seed, in points; its standard error is that of the
per-image differences, averaged over the seeds. "ratio" is 4 bytes for every parameter of the network that the plan
starts from, against what is stored; "fewer operations" compares multiply-adds of convolutions and matrix products.
"""
import argparse
import gzip
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np

FASHION = Path("/usr/share/datasets/fashion-mnist")
LENET = ["--lr-policy", "cosine", "--batch", "64", "--scale", "0.00390625"]

CIFAR = ["--batch", "128", "--weight-decay", "0.0001"]
AUGMENT = ["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225", "--pad-crop", "4", "--mirror"]


def lenet(bits, lr, iterations, *more):
    return ["--bits", str(bits), "--lr", str(lr), "--iterations-per-round", str(iterations), *LENET, *more]


# Fine-tuning of the reference, of TRP and of plain decompositions alike: eight epochs.
TRP_LR = ["--lr", "0.02", *CIFAR]


def decompose(scheme, ratio, *more):
    return ["decompose", "--scheme", scheme, "--flops", str(ratio), *more]


def trp(scheme, ratio, *more):
    """Six epochs at low rank, two on the factors."""
    epochs = ["--epochs", "6", "--fine-tune-epochs", "2", "--fine-tune-lr", "0.005"]
    return decompose(scheme, ratio, "--trp", "--trp-period", "10", *epochs, *TRP_LR, *more)


def plans(shared):
    net = [f"{shared}/models/lenet_mnist_deploy.prototxt", "--weights"]
    fashion = [*net, f"{shared}/models/lenet_fashion_mnist.caffemodel"]
    mnist = [*net, f"{shared}/models/lenet_mnist.caffemodel"]
    float_fashion = ["--lr", "0.001", "--iterations", "5000", *LENET]
    # The shipped networks have seen every training image: choices are made on one that has not.
    scratch = ["zoo:lenet", "--lr", "0.01", "--lr-policy", "inv:0.0001:0.75", "--iterations", "10000", *LENET[2:]]
    return {
        "lenet-fashion": {
            "model": fashion,
            "data": str(FASHION),
            "eval": ["--scale", "0.00390625"],
            "prepare-validation": scratch,
            "reference": float_fashion,
            "runs": {
                "one-shot k-means K=17": ["--method", "kmeans", "--codebook-size", "17", *LENET],
                "K=17 magnitude": lenet(5, 0.001, 1000, "--partition", "magnitude"),
                "K=17 loss": lenet(5, 0.001, 1000, "--partition", "loss"),
                "K=17 taylor": lenet(5, 0.001, 1000, "--partition", "taylor"),
                "K=17 reversed": lenet(5, 0.001, 1000, "--partition", "reversed"),
                "one-shot k-means K=9": ["--method", "kmeans", "--codebook-size", "9", *LENET],
                "K=9 magnitude": lenet(4, 0.003, 1000, "--partition", "magnitude"),
                "one-shot k-means K=5": ["--method", "kmeans", "--codebook-size", "5", *LENET],
                "K=5 magnitude": lenet(3, 0.005, 1500, "--partition", "magnitude"),
            },
        },
        "lenet-mnist": {
            "model": mnist,
            "data": f"{shared}/data/mnist",
            "eval": ["--scale", "0.00390625"],
            "prepare-validation": scratch,
            "reference": float_fashion,
            "runs": {
                "one-shot k-means K=17": ["--method", "kmeans", "--codebook-size", "17", *LENET],
                "K=17 magnitude": lenet(5, 0.001, 1000, "--partition", "magnitude"),
            },
        },
        # The pretrained network comes from the original CIFAR-10: it is fine-tuned on these images first, and what
        # the file then carries (preprocessing, augmentation) need not be repeated.
        "resnet20": {
            "prepare": [f"{shared}/models/resnet20_cifar10.onnx", "--epochs", "4", "--lr", "0.02", *CIFAR, *AUGMENT],
            "data": f"{shared}/data/cifar10-jpeg.zip",
            "eval": [],
            "reference": ["--epochs", "4", "--lr", "0.01", *CIFAR],
            "runs": {
                "one-shot k-means K=17": ["--method", "kmeans", "--codebook-size", "17"],
                "K=17 magnitude": ["--bits", "5", "--epochs-per-round", "0.8", "--lr", "0.01", *CIFAR],
                "one-shot k-means K=9": ["--method", "kmeans", "--codebook-size", "9"],
                "K=9 magnitude": ["--bits", "4", "--epochs-per-round", "1", "--lr", "0.01", *CIFAR],
            },
        },
        # Low rank at the published ratios of multiply-adds (arXiv 2004.14566, CIFAR-10), and 5-bit SLQ on top.
        "trp-resnet20": {
            "prepare": [f"{shared}/models/resnet20_cifar10.onnx", "--epochs", "4", "--lr", "0.02", *CIFAR, *AUGMENT],
            "data": f"{shared}/data/cifar10-jpeg.zip",
            "eval": [],
            "reference": ["--epochs", "8", *TRP_LR],
            "runs": {
                **{
                    f"{scheme} {name}": settings
                    for scheme, ratio in (("channel", 2.17), ("spatial", 2.84), ("decouple", 2.04))
                    for name, settings in (
                        ("plain", decompose(scheme, ratio, "--batch", "128")),
                        ("fine-tuned", decompose(scheme, ratio, "--fine-tune-epochs", "8", *TRP_LR)),
                        ("TRP", trp(scheme, ratio)),
                    )
                },
                "spatial TRP then K=17": [
                    "after:spatial TRP", "--bits", "5", "--epochs-per-round", "1", "--lr", "0.01", *CIFAR
                ],
            },
        },
    }


def validation_set(slq, data, out):
    """The training images in two: nine tenths to train on, one tenth, drawn at random, to choose by."""
    path = out / "validation.npz"
    if not path.exists():
        whole = out / "whole.npz"
        subprocess.run([slq, "convert", data, str(whole), "--quiet"], check=True)
        images = np.load(whole)
        x, y = images["x_train"], images["y_train"]
        order = np.random.default_rng(1803).permutation(len(x))
        held, kept = np.sort(order[: len(x) // 10]), np.sort(order[len(x) // 10 :])
        np.savez(path, x_train=x[kept], y_train=y[kept], x_test=x[held], y_test=y[held])
        whole.unlink()
    return str(path)


def run(slq, arguments, report):
    """Runs slq and keeps its JSON; a run whose report exists is not repeated."""
    if not report.exists():
        done = subprocess.run([slq, *arguments, "--json", "--quiet"], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"slq {' '.join(arguments)}\n{done.stderr}")
        report.write_text(done.stdout)
    return json.loads(report.read_text())


def predictions(slq, model, plan, data, path):
    if not path.exists():
        run(slq, ["eval", str(model), "--data", data, *plan["eval"], "--predictions", str(path)], Path(f"{path}.json"))
    return np.load(path)


def labels(data):
    if data.endswith(".npz"):
        return np.load(data)["y_test"].astype(np.int64)
    if data.endswith(".zip"):
        classes = sorted(n.split("/")[-2] for n in zipfile.ZipFile(data).namelist() if "/test/" in n and n.endswith(".jpg"))
        return np.unique(classes, return_inverse=True)[1].astype(np.int64)
    return np.frombuffer(gzip.open(Path(data) / "t10k-labels-idx1-ubyte.gz").read(), np.uint8)[8:].astype(np.int64)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan")
    parser.add_argument("--slq", default="target/release/slq")
    parser.add_argument("--data", default=os.environ.get("SLQ_DATA", "../shared"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--validation", action="store_true")
    parser.add_argument("--only")
    options = parser.parse_args()
    plan = plans(options.data)[options.plan]
    out = options.out or Path("target/results") / (options.plan + ("-validation" if options.validation else ""))
    out.mkdir(parents=True, exist_ok=True)
    data = validation_set(options.slq, plan["data"], out) if options.validation else plan["data"]
    truth = labels(data)
    prepare = plan.get("prepare-validation" if options.validation else "prepare", plan.get("prepare"))
    if prepare:
        prepared = out / "prepared.onnx"
        run(options.slq, ["train", *prepare, "--data", data, "-o", str(prepared)], out / "prepared.json")
        plan["model"] = [str(prepared)]
    correct = {}
    print("| run | top-1 % by seed | mean | difference to float | stored | ratio | fewer operations | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    runs = {"float, fine-tuned as long": None, **plan["runs"]}
    if options.only:
        runs = {k: v for k, v in runs.items() if k in options.only.split(",") or v is None}
    models, changes = {}, {}
    for name, settings in runs.items():
        rows, reports = [], []
        # A run may work on what another one made.
        source = settings[0].removeprefix("after:") if settings and settings[0].startswith("after:") else None
        settings = settings[1:] if source else settings
        command = "train" if settings is None else "decompose" if settings[0] == "decompose" else "compress"
        trains = settings is None or not ("kmeans" in settings or (command == "decompose" and "--lr" not in settings))
        for seed in range(options.seeds if trains else 1):
            stem = f"{out / name.replace(' ', '-').replace('=', '')}-{seed}"
            model, report = Path(f"{stem}.onnx"), Path(f"{stem}.json")
            common = ["--data", data, "--seed", str(seed), "-o", str(model)]
            given = [str(models[source][seed % len(models[source])])] if source else plan["model"]
            more = plan["reference"] if settings is None else settings[1:] if command == "decompose" else settings
            folder = ["--run-dir", f"{stem}.run"] if command == "compress" and trains else []
            report = run(options.slq, [command, *given, *more, *common, *folder], report)
            models.setdefault(name, []).append(model)
            rows.append(predictions(options.slq, model, plan, data, Path(str(stem) + ".npy")) == truth)
            reports.append(report)
            assert abs(rows[-1].mean() - report["final"]["top1"]) < 1e-9, "predictions and report disagree"
        correct[name] = rows
        top1 = [100 * r.mean() for r in rows]
        reference = correct["float, fine-tuned as long"]
        pairs = [reference[i % len(reference)] for i in range(len(rows))]
        each = np.mean([r.astype(float) - p for r, p in zip(rows, pairs)], axis=0)
        difference = f"{100 * each.mean():+.2f} ± {100 * each.std(ddof=1) / len(each) ** 0.5:.2f}" if settings else ""
        # Ratios are to the network that the plan starts from.
        last = reports[0]
        stored = last["size"]["stored_bytes"] if "size" in last else 4 * last["parameters"]["after"] if "flops" in last else None
        dense = last["size"]["dense_bytes"] if "size" in last else 4 * last["parameters"]["before"] if "flops" in last else None
        before = changes.get(source, {"dense": dense, "operations": 1})
        operations = before["operations"] * last.get("flops", {"ratio": 1})["ratio"]
        changes[name] = {"dense": before["dense"], "operations": operations}
        seconds = np.mean([r.get("seconds", 0) for r in reports])
        print(f"| {name} | {' '.join(f'{t:.2f}' for t in top1)} | {np.mean(top1):.2f} | {difference} "
              f"| {stored or ''} | {before['dense'] / stored if stored else 1:.2f} | {operations:.2f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
