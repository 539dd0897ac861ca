#!/usr/bin/env python3
"""Makes the results tables: runs `slq` over settings and seeds and prints means with their standard errors.

usage: measure.py PLAN [--slq PATH] [--data DIR] [--out DIR] [--seeds N] [--validation] [--only NAME,..] [--threads N]

PLAN is one of the plans below. Each run's JSON and predictions go to OUT (default target/results/PLAN), and a run
that is already there is not repeated. With --validation a tenth of the training images takes the place of the test
images, and the network is first trained without them ("prepare-validation"): this is how learning rates and orders
were chosen; the test images are for the final table alone.

"difference" is accuracy minus the float reference of the same seed, in points; its standard error is that of the
per-image differences, averaged over the seeds. "ratio" is 4 bytes for every parameter of the network that the plan
starts from, against what is stored; "at entropy" is the same with the codes at their entropy; "fewer operations"
compares multiply-adds of convolutions and matrix products.
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
SHORT = ["--scale", "0.00390625"]
LENET = ["--lr-policy", "cosine", "--batch", "64", "--scale", "0.00390625"]

CIFAR = ["--batch", "128", "--weight-decay", "0.0001"]
AUGMENT = ["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225", "--pad-crop", "4", "--mirror"]


IMAGENET = ["--crop", "224", "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]
# Small layers first: the largest, which has the most room to make up for the others, stays free for longest.
MLQ = ["--rank-by", "size"]


def distilled(half):
    """SLQ towards the float network's outputs, on every second image."""
    subsets = ["--train-subset", f"{half}::2", "--test-subset", f"{1 - half}::2"]
    return ["--distill", "--epochs-per-round", "4", "--lr", "0.001", "--batch", "16", "--freeze-batch-norm", *IMAGENET, *subsets]


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
    # The shipped networks have seen every training image: choices are made on one that has not.
    scratch = ["zoo:lenet", "--lr", "0.01", "--lr-policy", "inv:0.0001:0.75", "--iterations", "10000", *LENET[2:]]
    float_fashion = ["--lr", "0.001", "--iterations", "5000", *LENET]
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
        # Ternary: every row re-trains for 16 000 steps in all, the reference too.
        "mlq-lenet": {
            "model": fashion,
            "data": str(FASHION),
            "eval": SHORT,
            "prepare-validation": scratch,
            "reference": ["--lr", "0.005", "--iterations", "16000", *LENET],
            "runs": {
                "one-shot k-means K=3": ["--method", "kmeans", "--codebook-size", "3", *LENET],
                "SLQ K=3": lenet(2, 0.005, 8000),
                "INQ K=3": lenet(2, 0.005, 1600, "--method", "inq"),
                "MLQ K=3": lenet(2, 0.005, 2000, "--method", "mlq", *MLQ),
                "MLQ K=3 largest loss first": lenet(2, 0.005, 2000, "--method", "mlq", "--rank-by", "loss"),
                "MLQ K=3 Lipschitz bound": lenet(2, 0.005, 2000, "--method", "mlq", "--rank-by", "lipschitz"),
                "MLQ K=3 large layers first": lenet(2, 0.005, 2000, "--method", "mlq", "--rank-by", "size", "--rank-reversed"),
            },
        },
        # Float networks trained from scratch, with shifts by up to two pixels; "prepare" gives recipe and error.
        **{
            f"deep-compression-{net}": {
                "prepare": [f"zoo:{net}", "--epochs", "40", "--lr", "0.02", "--pad-crop", "2", *LENET],
                "data": f"{shared}/data/mnist",
                "eval": [],
                "reference": ["--lr", "0.01", "--epochs", "60", "--batch", "64"],
                "runs": {
                    f"Deep Compression {sparsity} K={1 << bits}": [
                        "--method", "deep-compression", "--bits", str(bits), "--sparsity", str(sparsity), "--prune-steps", "19",
                        "--epochs-per-round", "3", "--lr", "0.01", "--tune-epochs", "3", "--tune-lr", "0.001", "--batch", "64",
                    ]
                    for sparsity, bits in settings
                },
            }
            for net, settings in (
                ("lenet", [(0.97, 3), (0.98, 3), (0.985, 2), (0.99, 2)]),
                ("lenet-300-100", [(0.95, 3), (0.97, 3), (0.98, 2)]),
            )
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
        "resnet20-low-bits": {
            "prepare": [f"{shared}/models/resnet20_cifar10.onnx", "--epochs", "4", "--lr", "0.02", *CIFAR, *AUGMENT],
            "data": f"{shared}/data/cifar10-jpeg.zip",
            "eval": [],
            "reference": ["--epochs", "8", "--lr", "0.01", *CIFAR],
            "runs": {
                "one-shot k-means K=5": ["--method", "kmeans", "--codebook-size", "5"],
                "SLQ K=5": ["--bits", "3", "--epochs-per-round", "4", "--lr", "0.01", *CIFAR],
                "one-shot k-means K=3": ["--method", "kmeans", "--codebook-size", "3"],
                "SLQ K=3": ["--bits", "2", "--epochs-per-round", "4", "--lr", "0.01", *CIFAR],
                "MLQ K=3": ["--method", "mlq", "--bits", "2", "--layers-per-step", "4", *MLQ, "--epochs-per-round", "0.67", "--lr", "0.01", *CIFAR],
            },
        },
        "mobilenet": {
            "model": [f"{shared}/models/mobilenet_v2.onnx"],
            "data": f"{shared}/data/imagenet-sample-even.zip",
            "eval": IMAGENET,
            "reference": None,
            "runs": {
                f"k-means K={1 << bits} per {granularity}": [
                    "--method", "kmeans", "--bits", str(bits), "--granularity", granularity, "--batch", "16", *IMAGENET,
                ]
                for granularity in ("tensor", "channel")
                for bits in (8, 6, 5, 4)
            },
        },
        # Trained without labels on one half of the images, measured on the other.
        **{
            f"mobilenet-distill-{half}": {
                "model": [f"{shared}/models/mobilenet_v2.onnx"],
                "data": f"{shared}/data/imagenet-sample-even.zip",
                "eval": [*IMAGENET, "--test-subset", f"{1 - half}::2"],
                "reference": None,
                "runs": {
                    "SLQ K=32 per tensor": [*distilled(half), "--codebook-size", "32"],
                    "SLQ K=16 per channel": [*distilled(half), "--codebook-size", "16", "--granularity", "channel"],
                },
            }
            for half in (0, 1)
        },
    }


def idx(folder, name, header):
    """The bytes of an IDX file, compressed or not, behind its header."""
    path = Path(folder) / name
    data = path.read_bytes() if path.exists() else gzip.open(f"{path}.gz").read()
    return np.frombuffer(data, np.uint8)[header:]


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


def labels(data, subset):
    part = slice(*(int(s) if s else None for s in subset.split(":")))
    return all_labels(data)[part]


def all_labels(data):
    if data.endswith(".npz"):
        return np.load(data)["y_test"].astype(np.int64)
    if data.endswith(".zip"):
        names = [n for n in zipfile.ZipFile(data).namelist() if n.lower().endswith((".jpg", ".jpeg"))]
        classes = sorted(n.split("/")[-2] for n in names if "/test/" in n) or sorted(n.split("/")[-2] for n in names)
        if all(c.split("_")[0].isdigit() for c in classes):
            return np.array([int(c.split("_")[0]) for c in classes])
        return np.unique(classes, return_inverse=True)[1].astype(np.int64)
    return idx(data, "t10k-labels-idx1-ubyte", 8).astype(np.int64)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan")
    parser.add_argument("--slq", default="target/release/slq")
    parser.add_argument("--data", default=os.environ.get("SLQ_DATA", "../shared"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--validation", action="store_true")
    parser.add_argument("--only")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    plan = plans(options.data)[options.plan]
    out = options.out or Path("target/results") / (options.plan + ("-validation" if options.validation else ""))
    out.mkdir(parents=True, exist_ok=True)
    data = validation_set(options.slq, plan["data"], out) if options.validation else plan["data"]
    threads = ["--threads", str(options.threads)] if options.threads else []
    subset = plan["eval"][plan["eval"].index("--test-subset") + 1] if "--test-subset" in plan["eval"] else ":"
    truth = labels(data, subset)
    prepare = plan.get("prepare-validation" if options.validation else "prepare", plan.get("prepare"))
    if prepare:
        prepared = out / "prepared.onnx"
        run(options.slq, ["train", *prepare, "--data", data, "-o", str(prepared)], out / "prepared.json")
        plan["model"] = [str(prepared)]
    correct = {}
    print("| run | top-1 % by seed | mean | difference to float | stored | ratio | at entropy | fewer operations | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    floating = "float, fine-tuned as long" if plan["reference"] else "float"
    runs = {floating: None, **plan["runs"]}
    if options.only:
        runs = {k: v for k, v in runs.items() if k in options.only.split(",") or v is None}
    models, changes = {}, {}
    for name, settings in runs.items():
        rows, reports = [], []
        # A run may work on what another one made.
        source = settings[0].removeprefix("after:") if settings and settings[0].startswith("after:") else None
        settings = settings[1:] if source else settings
        if source and source not in models:
            sys.exit(f"'{name}' works on what '{source}' made: name both with --only")
        command = "train" if settings is None else "decompose" if settings[0] == "decompose" else "compress"
        as_it_is = settings is None and not plan["reference"]
        trains = not as_it_is if settings is None else not (
            "kmeans" in settings or (command == "decompose" and "--lr" not in settings)
        )
        for seed in range(options.seeds if trains else 1):
            stem = f"{out / name.replace(' ', '-').replace('=', '')}-{seed}"
            model, report = Path(f"{stem}.onnx"), Path(f"{stem}.json")
            if as_it_is:
                model = Path(plan["model"][0])
                found = run(options.slq, ["eval", *plan["model"], "--data", data, *plan["eval"], *threads], report)
                report = {"final": found, "seconds": found["seconds"]}
            else:
                common = ["--data", data, "--seed", str(seed), "-o", str(model), *threads]
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
        reference = correct[floating]
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
        entropy = [before["dense"] / r["size"]["entropy_bytes"] for r in reports if "size" in r]
        seconds = np.mean([r.get("seconds", 0) for r in reports])
        print(f"| {name} | {' '.join(f'{t:.2f}' for t in top1)} | {np.mean(top1):.2f} | {difference} "
              f"| {stored or ''} | {before['dense'] / stored if stored else 1:.2f} | {f'{np.mean(entropy):.2f}' if entropy else ''} "
              f"| {operations:.2f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
