#!/usr/bin/env python3
"""Makes the results tables: runs `slq` over settings and seeds and prints means with their standard errors.

usage: measure.py PLAN [--slq PATH] [--data DIR] [--out DIR] [--seeds N] [--validation] [--only NAME,..] [--threads N]
                       [--page FILE]

PLAN is one of those in plans.py. Each run's JSON and predictions go to OUT (default target/results/PLAN), and a run
that is already there is not repeated. With --validation a tenth of the training images takes the place of the test
images, and the network is first trained without them ("prepare-validation"): this is how learning rates and orders
were chosen; the test images are for the final table alone. With --page, table and commands also take the place of what
stands between the marks `<!-- measure.py PLAN -->` and `<!-- end -->` in FILE.

"difference" is accuracy minus the float reference of the same seed, in points; its standard error is that of the
per-image differences, averaged over the seeds. "ratio" is 4 bytes for every parameter of the network that the plan
starts from, against what is stored; "at entropy" is the same with the codes at their entropy; "fewer operations"
compares multiply-accumulates (MACs) of convolutions and matrix products.
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

from plans import plans

HEAD = """\
| run | top-1 % by seed | mean | difference to float | stored | ratio | at entropy | fewer operations | seconds |
|---|---|---|---|---|---|---|---|---|"""


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


class Measurement:
    """One plan, measured run by run."""

    def __init__(self, options):
        self.options = options
        self.plan = plans(options.data)[options.plan]
        suffix = "-validation" if options.validation else ""
        self.out = options.out or Path("target/results") / (options.plan + suffix)
        self.out.mkdir(parents=True, exist_ok=True)
        self.slq, plan = options.slq, self.plan
        self.data = validation_set(self.slq, plan["data"], self.out) if options.validation else plan["data"]
        self.threads = ["--threads", str(options.threads)] if options.threads else []
        subset = plan["eval"][plan["eval"].index("--test-subset") + 1] if "--test-subset" in plan["eval"] else ":"
        self.truth = labels(self.data, subset)
        self.commands = []
        # Of each run so far: what it made, who was right, and what its ratios are to.
        self.models, self.correct, self.bases = {}, {}, {}
        prepare = plan.get("prepare-validation" if options.validation else "prepare", plan.get("prepare"))
        self.model = plan.get("model")
        if prepare:
            made = self.out / "prepared.onnx"
            self.record(["train", *prepare, "--data", self.data, "-o", "prepared.onnx"])
            run(self.slq, ["train", *prepare, "--data", self.data, "-o", str(made)], self.out / "prepared.json")
            self.model = [str(made)]
        self.reference = "float, fine-tuned as long" if plan["reference"] else "float"

    def record(self, arguments):
        """Keeps a command for the page, without the folders of this machine."""
        words = [a.replace(self.options.data, "$SLQ_DATA").replace(f"{self.out}/", "") for a in arguments]
        self.commands.append("slq " + " ".join(f"'{w}'" if "*" in w or "," in w and "." not in w else w for w in words))

    def runs(self):
        runs = {self.reference: None, **self.plan["runs"]}
        only = self.options.only and self.options.only.split(",")
        return {name: s for name, s in runs.items() if not only or name in only or s is None}

    def once(self, name, settings, source, seed):
        """Makes and evaluates a network; its report and, image by image, whether it was right."""
        stem = f"{self.out / name.replace(' ', '-').replace('=', '')}-{seed}"
        model, report, plan = Path(f"{stem}.onnx"), Path(f"{stem}.json"), self.plan
        if settings is None and not plan["reference"]:
            model = Path(self.model[0])
            arguments = ["eval", *self.model, "--data", self.data, *plan["eval"]]
            found = run(self.slq, [*arguments, *self.threads], report)
            found = {"final": found, "seconds": found["seconds"]}
        else:
            command = "train" if settings is None else "decompose" if settings[0] == "decompose" else "compress"
            given = [str(self.models[source][seed % len(self.models[source])])] if source else self.model
            more = plan["reference"] if settings is None else settings[1:] if command == "decompose" else settings
            more = [word.replace("{prepared}", str(self.out / "prepared.onnx")) for word in more]
            arguments = [command, *given, *more, "--data", self.data, "--seed", str(seed), "-o", str(model)]
            folder = ["--run-dir", f"{stem}.run"] if command == "compress" and "kmeans" not in settings else []
            found = run(self.slq, [*arguments, *self.threads, *folder], report)
        if seed == 0:
            self.record(arguments)
        self.models.setdefault(name, []).append(model)
        right = predictions(self.slq, model, plan, self.data, Path(f"{stem}.npy")) == self.truth
        assert abs(right.mean() - found["final"]["top1"]) < 1e-9, "predictions and report disagree"
        return found, right

    def row(self, name, settings):
        """One line of the table."""
        source = settings[0].removeprefix("after:") if settings and settings[0].startswith("after:") else None
        settings = settings[1:] if source else settings
        if source and source not in self.models:
            sys.exit(f"'{name}' works on what '{source}' made: name both with --only")
        by_chance = self.plan["reference"] if settings is None else "--lr" in settings and "kmeans" not in settings
        seeds = self.options.seeds or self.plan.get("seeds", 3)
        reports, rows = zip(*(self.once(name, settings, source, seed) for seed in range(seeds if by_chance else 1)))
        self.correct[name] = rows
        top1 = [100 * r.mean() for r in rows]
        reference = self.correct[self.reference]
        pairs = [reference[i % len(reference)] for i in range(len(rows))]
        each = np.mean([r.astype(float) - p for r, p in zip(rows, pairs)], axis=0)
        difference = f"{100 * each.mean():+.2f} ± {100 * each.std(ddof=1) / len(each) ** 0.5:.2f}" if settings else ""
        # Ratios are to the network that the plan starts from.
        last = reports[0]
        sizes = {"size": ("stored_bytes", "dense_bytes", 1), "parameters": ("after", "before", 4)}
        key = next((k for k in sizes if k in last and (k == "size" or "flops" in last)), None)
        stored, dense = (last[key][k] * sizes[key][2] for k in sizes[key][:2]) if key else (None, None)
        before = self.bases.get(source, {"dense": dense, "operations": 1})
        operations = before["operations"] * last.get("flops", {"ratio": 1})["ratio"]
        self.bases[name] = {"dense": before["dense"], "operations": operations}
        entropy = [before["dense"] / r["size"]["entropy_bytes"] for r in reports if "size" in r]
        seconds = np.mean([r.get("seconds", 0) for r in reports])
        return (f"| {name} | {' '.join(f'{t:.2f}' for t in top1)} | {np.mean(top1):.2f} | {difference} "
                f"| {stored or ''} | {before['dense'] / stored if stored else 1:.2f} | {f'{np.mean(entropy):.2f}' if entropy else ''} "
                f"| {operations:.2f} | {seconds:.0f} |")


def fill(page, plan, table, commands):
    """Puts table and commands between the marks of a page."""
    text, mark, end = page.read_text(), f"<!-- measure.py {plan} -->", "<!-- end -->"
    if mark not in text or end not in text.partition(mark)[2]:
        sys.exit(f"{page} has no marks {mark} and {end}")
    before, _, rest = text.partition(mark)
    after = rest.partition(end)[2]
    listing = "\n".join(f"    {c}" for c in commands)
    made = f"`python scripts/measure.py {plan}`, in which one seed of each row is:\n\n{listing}"
    page.write_text(f"{before}{mark}\n{table}\n\n{made}\n{end}{after}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan")
    parser.add_argument("--slq", default="target/release/slq")
    parser.add_argument("--data", default=os.environ.get("SLQ_DATA", "../shared"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, help="seeds of each row; default: the plan's")
    parser.add_argument("--validation", action="store_true")
    parser.add_argument("--only")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    measurement = Measurement(options)
    table = [HEAD]
    print(HEAD)
    for name, settings in measurement.runs().items():
        table.append(measurement.row(name, settings))
        print(table[-1], flush=True)
    if options.page:
        fill(options.page, options.plan, "\n".join(table), measurement.commands)


if __name__ == "__main__":
    main()
