#!/usr/bin/env python3
"""Compresses the same networks with slq and with other tools, and compares bytes, accuracy, time and memory.

    scripts/compare-peers.py [NETWORK ...] [--peers NAME ...] [--quick] [--data DIR] [--models DIR] [--slq PROGRAM]
                             [--out DIR] [--venvs DIR] [--threads N] [--page FILE] [--install] [--kept]

NETWORK is one of those in peers/networks.py (default: all of them; with --quick LeNet on MNIST). Needs Python 3.11 and a C++
compiler for nncodec; everything else is installed, with pinned versions, into environments under --venvs (some 12 GB, since
two of the tools want PyTorch). Every run is a process of its own and is kept under --out, so that nothing runs twice. A tool
that cannot be installed or that fails is a row with its message.

For each network: a table of all settings, what of ours is as small as each peer's file and how it compares image by image,
and a picture NETWORK.svg. With --page, they take the place of what stands between the marks `<!-- compare-peers.py NETWORK -->`
and `<!-- end -->` in FILE, and the picture is written beside it.
"""

import argparse
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "scripts" / "peers")]

from peers import environments  # noqa: E402


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--peers", nargs="*", default=[], help="titles such as nncodec; all without it")
    parser.add_argument("--quick", action="store_true", help="the first setting of each peer, on LeNet and MNIST alone")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--models", type=Path, default=ROOT.parent / "shared" / "models")
    parser.add_argument("--slq", type=Path, default=Path(os.environ.get("SLQ", ROOT / "target/release/slq")))
    parser.add_argument("--out", type=Path, default=ROOT / "target" / "peers" / "runs")
    parser.add_argument("--venvs", type=Path, default=ROOT / "target" / "peers" / "venvs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=int, default=600, help="seconds after which a run is stopped")
    parser.add_argument("--kept", action="store_true", help="tables of the runs under --out; nothing is run")
    parser.add_argument("--page", type=Path)
    parser.add_argument("--install", action="store_true", help="make the environments and leave")
    return parser.parse_args()


def inside_common(venvs):
    """Goes on under the interpreter of the common environment."""
    interpreter = environments.python(venvs, "common")
    if Path(sys.prefix).resolve() != interpreter.parent.parent.resolve():
        os.execv(interpreter, [str(interpreter), *sys.argv])


def install(venvs):
    for name in environments.REQUIREMENTS:
        try:
            environments.python(venvs, name)
            print(f"{name}: ready", flush=True)
        except environments.InstallError as error:
            print(error, flush=True)


def write(page, name, text):
    """Puts the text between the network's marks."""
    start, end = f"<!-- compare-peers.py {name} -->\n", "<!-- end -->"
    before, rest = page.read_text().split(start, 1)
    page.write_text(f"{before}{start}{text}\n{rest[rest.index(end) :]}")


def main():
    given = options()
    for folder in ("venvs", "out", "slq", "data", "models"):
        setattr(given, folder, getattr(given, folder).absolute())
    if given.install:
        return install(given.venvs)
    if not given.slq.exists():
        sys.exit(f"{given.slq}: no such program; build it with cargo build --release, or name another with --slq")
    inside_common(given.venvs)
    from peers import plot, runs, table
    from peers.networks import NETWORKS

    import numpy as np

    given.say = lambda text: print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)
    peers = [p for p in runs.modules() if not given.peers or p.TITLE in given.peers]
    for name in given.networks or (["lenet-mnist"] if given.quick else list(NETWORKS)):
        if name not in NETWORKS:
            sys.exit(f"{name}: no such network; there are {', '.join(NETWORKS)}")
        comparison = runs.Comparison(name, given)
        rows = [comparison.row(p, s) for p in peers for s in comparison.settings(p)[: 1 if given.quick else None]]
        rows = [r for r in rows if r is not None]
        base = np.concatenate(comparison.float_right)
        text = table.table(rows, base) + "\n\n" + table.beside(rows)
        print(f"\n## {comparison.network.title}\n\n{text}", flush=True)
        drawn = plot.picture(comparison.network.title, rows) if any(not r.error for r in rows) else ""
        (given.out / name / "table.md").write_text(text + "\n")
        (given.out / name / f"{name}.svg").write_text(drawn)
        if given.page:
            write(given.page, name, text)
            (given.page.parent / f"peers-{name}.svg").write_text(drawn)
    for peer in peers:
        found = environments.versions(environments.ready(given.venvs, peer.ENVIRONMENT), peer.PACKAGES)
        print(f"{peer.TITLE}: {found}")


if __name__ == "__main__":
    main()
