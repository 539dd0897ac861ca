"""Time of `slq.cluster` in Python beside that of `slq cluster`, in turns: a million floats, 256 values.

    python scripts/bench-cluster.py --slq target/release/slq [--turns 9]

Needs the installed package. The program's time is the one it prints, from values in memory to codes in memory; Python's is that
of the whole call. Exits with 1 where the codebooks differ, or the median of the ratios is above 1.2.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import slq

LIMIT = 1.2


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slq", required=True, help="the program")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--values", type=int, default=1_000_000)
    parser.add_argument("--k", type=int, default=256)
    args = parser.parse_args()
    values = np.random.default_rng(0).standard_normal(args.values).astype(np.float32)
    slq.cluster(values[:1000], 16)
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "values.npy")
        np.save(path, values)
        command = [args.slq, "cluster", str(path), "--k", str(args.k), "--json", "--quiet"]
        for _ in range(args.turns):
            began = time.perf_counter()
            found = slq.cluster(values, args.k)
            python = time.perf_counter() - began
            said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            if not np.array_equal(found.codebook, np.array(said["codebook"], np.float32)):
                sys.exit("the codebooks differ")
            ratios.append(python / said["seconds"])
            print(f"Python {python:.3f} s, the program {said['seconds']:.3f} s")
    median = statistics.median(ratios)
    print(f"Python takes {median:.2f} times as long in the median")
    sys.exit(median > LIMIT)


if __name__ == "__main__":
    main()
