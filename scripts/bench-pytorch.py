#!/usr/bin/env python3
"""Runs slq and PyTorch in turn on the same networks and prints the table of speeds and ratios.

usage: bench-pytorch.py [--slq PATH] [--rounds 5] [--seconds 1] [--threads 2] [--nets lenet,resnet20,..] [--json FILE]

Every round measures each network once with slq (`slq bench`) and once with PyTorch, one directly after the other, so that a
machine whose speed drifts slows both; ratios are formed round by round. Each measurement is the median over passes of
about `--seconds`. PyTorch runs eagerly, data in memory, `inference_mode` for forward passes, in the faster of NCHW and channels-last,
which a first, uncounted round finds for each of the two. A step is forward, backward and SGD with momentum 0.9 and weight decay on both
sides. Memory is the largest resident set of a process that trained and ran forward. Needs torch; all nets in about seven minutes
on two quiet cores.
"""
import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Network: batch, image, classes.
NETS = {
    "lenet": (64, (1, 28, 28), 10),
    "resnet20": (128, (3, 32, 32), 10),
    "alexnet": (16, (3, 227, 227), 1000),
    "resnet18": (16, (3, 224, 224), 1000),
    "mobilenet-v2": (16, (3, 224, 224), 1000),
}
# Training steps of Caffe (CPU, OpenBLAS; the faster of one and two threads), images a second, measured once on two cores of this class.
CAFFE = {"lenet": 3150.0, "alexnet": 18.9}
LAYOUTS = ["NCHW", "channels-last"]


# ---- PyTorch's side, in processes of their own -----------------------------------------------------------------------


def network(name):
    """The same networks as `zoo:NAME`."""
    from torch import nn
    from torch.nn import functional as F

    def conv_norm(c, out, k, stride=1, groups=1, act=None):
        layers = [nn.Conv2d(c, out, k, stride, k // 2, groups=groups, bias=False), nn.BatchNorm2d(out)]
        return nn.Sequential(*layers, *([act] if act else []))

    class Basic(nn.Module):
        def __init__(self, c, out, stride, project):
            super().__init__()
            self.first = conv_norm(c, out, 3, stride, act=nn.ReLU(inplace=True))
            self.second = conv_norm(out, out, 3)
            self.project = conv_norm(c, out, 1, stride) if project and (c, stride) != (out, 1) else None
            self.pad, self.stride = (out - c) // 2, stride

        def forward(self, x):
            y = self.second(self.first(x))
            if self.project is not None:
                x = self.project(x)
            elif self.stride > 1:
                x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
            return F.relu(x + y, inplace=True)

    class Inverted(nn.Module):
        def __init__(self, c, out, stride, expansion):
            super().__init__()
            hidden = c * expansion
            layers = [conv_norm(c, hidden, 1, act=nn.ReLU6(inplace=True))] if expansion > 1 else []
            layers += [conv_norm(hidden, hidden, 3, stride, hidden, nn.ReLU6(inplace=True)), conv_norm(hidden, out, 1)]
            self.layers, self.residual = nn.Sequential(*layers), stride == 1 and c == out

        def forward(self, x):
            return x + self.layers(x) if self.residual else self.layers(x)

    def head(classes, c):
        return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, classes)]

    if name == "lenet":
        return nn.Sequential(
            nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(800, 500), nn.ReLU(inplace=True), nn.Linear(500, 10))
    if name == "resnet20":
        layers, c = [conv_norm(3, 16, 3, act=nn.ReLU(inplace=True))], 16
        for out in (16, 32, 64):
            for _ in range(3):
                layers.append(Basic(c, out, 1 if c == out else 2, project=False))
                c = out
        return nn.Sequential(*layers, *head(10, 64))
    if name == "resnet18":
        layers, c = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)], 64
        for out in (64, 128, 256, 512):
            for _ in range(2):
                layers.append(Basic(c, out, 1 if c == out else 2, project=True))
                c = out
        return nn.Sequential(*layers, *head(1000, 512))
    if name == "mobilenet-v2":
        layers, c = [conv_norm(3, 32, 3, 2, act=nn.ReLU6(inplace=True))], 32
        for expansion, out, repetitions, stride in [
            (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
        ]:
            for i in range(repetitions):
                layers.append(Inverted(c, out, stride if i == 0 else 1, expansion))
                c = out
        layers.append(conv_norm(320, 1280, 1, act=nn.ReLU6(inplace=True)))
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1280, 1000))
    relu = lambda: nn.ReLU(inplace=True)
    lrn = lambda: nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)
    return nn.Sequential(
        nn.Conv2d(3, 96, 11, 4), relu(), lrn(), nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 256, 5, padding=2, groups=2), relu(), lrn(), nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, 3, padding=1), relu(), nn.Conv2d(384, 384, 3, padding=1, groups=2), relu(),
        nn.Conv2d(384, 256, 3, padding=1, groups=2), relu(), nn.MaxPool2d(3, 2), nn.Flatten(),
        nn.Linear(9216, 4096), relu(), nn.Dropout(), nn.Linear(4096, 4096), relu(), nn.Dropout(), nn.Linear(4096, 1000))


def rate(images, seconds, work):
    """Images a second: the median over at least three passes and about `seconds`, after one that warms up."""
    work()
    times, began = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return images / statistics.median(times)


def worker(name, layout, threads):
    """Measures `train SECONDS` or `forward SECONDS` for each line on standard input."""
    import resource

    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    batch, image, classes = NETS[name]
    model, x = network(name), torch.rand(batch, *image) - 0.5
    labels = torch.arange(batch) % classes
    if layout == "channels-last":
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    # A rate too small to leave the starting point, as in `slq bench`.
    optimizer = torch.optim.SGD(model.parameters(), 1e-9, momentum=0.9, weight_decay=5e-4)

    def step():
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()

    def forward():
        with torch.inference_mode():
            model(x)

    print(json.dumps({"parameters": sum(p.numel() for p in model.parameters())}), flush=True)
    for line in sys.stdin:
        what, seconds = line.split()
        model.train(what == "train")
        speed = rate(batch, float(seconds), step if what == "train" else forward)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"rate": speed, "peak": peak}), flush=True)


class Torch:
    """A worker that waits, without load, until it is asked."""

    def __init__(self, name, layout, threads):
        call = [sys.executable, __file__, "--worker", name, layout, str(threads)]
        self.process = subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.parameters = self.read()["parameters"]

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit("PyTorch's side ended early; its message stands above")
        return json.loads(line)

    def measure(self, what, seconds):
        self.process.stdin.write(f"{what} {seconds}\n")
        self.process.stdin.flush()
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


# ---- our side, and the table -----------------------------------------------------------------------------------------


def ours(args, name):
    """Speeds and largest resident set of one `slq bench`."""
    call = [str(args.slq), "bench", f"zoo:{name}", "--batch", str(NETS[name][0]), "--seconds", str(args.seconds)]
    process = subprocess.Popen(call + ["--threads", str(args.threads), "--json", "--quiet"], stdout=subprocess.PIPE)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"slq bench zoo:{name} failed")
    found = json.loads(output)
    return {
        "train": found["train"]["images_per_second"],
        "forward": found["forward"]["images_per_second"],
        "peak": usage.ru_maxrss * 1024,
        "planned": found["peak_bytes"],
    }


def compare(args, name):
    """All rounds of one network."""
    workers = {layout: Torch(name, layout, args.threads) for layout in LAYOUTS}
    layouts = {}
    for what in ["train", "forward"]:
        speeds = {layout: w.measure(what, args.seconds)["rate"] for layout, w in workers.items()}
        layouts[what] = max(speeds, key=speeds.get)
    rounds = []
    for _ in range(args.rounds):
        us, them = ours(args, name), {}
        for what, layout in layouts.items():
            answer = workers[layout].measure(what, args.seconds)
            them[what], them["peak " + what] = answer["rate"], answer["peak"]
        rounds.append({"slq": us, "pytorch": them})
        print(f"{name}: step {us['train']:.1f} against {them['train']:.1f}, forward {us['forward']:.1f} against "
              f"{them['forward']:.1f} images/s", file=sys.stderr)
    parameters = workers["NCHW"].parameters
    for w in workers.values():
        w.close()
    return {"layouts": layouts, "rounds": rounds, "parameters": parameters}


def spread(values, digits):
    """Median (smallest-largest)."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def table(args, results):
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    import importlib.metadata

    print(f"{datetime.date.today()}, {cpu}, {args.threads} threads, PyTorch {importlib.metadata.version('torch')}, "
          f"{args.rounds} rounds; images/s, medians (smallest-largest)\n")
    print("| net, batch | step: slq | PyTorch | ratio | forward: slq | PyTorch | ratio | step / Caffe | memory: slq | PyTorch |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, result in results.items():
        rounds = result["rounds"]
        cells = [f"{name} {NETS[name][0]}"]
        for what in ["train", "forward"]:
            us, them = [r["slq"][what] for r in rounds], [r["pytorch"][what] for r in rounds]
            digits = 0 if statistics.median(us) >= 100 else 1
            layout = "" if result["layouts"][what] == "NCHW" else " [cl]"
            cells += [spread(us, digits), spread(them, digits) + layout, spread([a / b for a, b in zip(us, them)], 2)]
        step = statistics.median(r["slq"]["train"] for r in rounds)
        cells.append(f"{step / CAFFE[name]:.2f}" if name in CAFFE else "")
        cells.append(f"{max(r['slq']['peak'] for r in rounds) / 1e6:.0f} MB")
        cells.append(f"{max(r['pytorch']['peak train'] for r in rounds) / 1e6:.0f} MB")
        print("| " + " | ".join(cells) + " |")
    print("\n[cl]: channels-last was the faster of PyTorch's layouts. Caffe's figures were measured once on this class of machine.")


def main():
    if sys.argv[1:2] == ["--worker"]:
        return worker(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slq", type=Path, default=ROOT / "target/release/slq")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each measurement (default 1)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--nets", default=",".join(NETS))
    parser.add_argument("--json", type=Path, help="write all measurements there")
    args = parser.parse_args()
    nets = args.nets.split(",")
    if unknown := [n for n in nets if n not in NETS]:
        sys.exit(f"no such network: {', '.join(unknown)} (known: {', '.join(NETS)})")
    results = {name: compare(args, name) for name in nets}
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    table(args, results)


if __name__ == "__main__":
    main()
