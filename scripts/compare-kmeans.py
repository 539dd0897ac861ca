#!/usr/bin/env python3
"""Times slq-codebook in turns against other 1-D k-means programs on the same values, one thread each.

    pip install numpy kmeans1d flash1dkmeans scikit-learn faiss-cpu
    python scripts/compare-kmeans.py [--values N] [--k 3 17 256] [--repeats R] [--skip kmeans1d ...]

Prints, for every program, the least seconds and the least processor seconds of the repeats, the squared error (in
f64, with every value at its nearest centroid) above the proven optimum, and the processor time as a multiple of
ours. Programs take turns within each repeat, so that a busy machine hurts all of them alike. Seconds run from
values in memory to codes in memory. "slq sort" is a radix sort of the same values, with prefix sums.
kmeans1d takes minutes at k = 256.
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent


def squared_error(x, centroids):
    """Error in f64 with every value at its nearest centroid."""
    centroids = np.sort(np.asarray(centroids, dtype=np.float64))
    codes = np.searchsorted((centroids[1:] + centroids[:-1]) / 2, x)
    return float(np.sum((x - centroids[codes]) ** 2))


def build():
    subprocess.run(
        ["cargo", "build", "--quiet", "--release", "-p", "slq-codebook", "--example", "cluster_npy"], cwd=ROOT, check=True
    )
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "release" / "examples" / "cluster_npy"


def ours(binary, algorithm, file):
    def run(x, k):
        # The first of two runs warms the pages, as the other programs' imports do for them.
        command = [binary, algorithm, str(k), "1", "2", file]
        line = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[0]
        result = json.loads(line)
        return result["cpu_seconds"] or result["seconds"], result["seconds"], result["sse"], result["lower_bound"]

    return run


def timed(function):
    def run(x, k):
        start, cpu = time.perf_counter(), time.process_time()
        centroids = function(x, k)
        cpu, seconds = time.process_time() - cpu, time.perf_counter() - start
        return cpu, seconds, squared_error(x.astype(np.float64), centroids), None

    return run


def kmeans1d_cluster(x, k):
    import kmeans1d

    return kmeans1d.cluster(x, k)[1]


def flash_cluster(x, k):
    from flash1dkmeans import kmeans_1d

    return kmeans_1d(x, k, random_state=0)[0]


def sklearn_cluster(tolerance):
    def cluster(x, k):
        from sklearn.cluster import KMeans

        model = KMeans(k, n_init=1, random_state=0, **tolerance).fit(x.reshape(-1, 1))
        return model.cluster_centers_.ravel()

    return cluster


def faiss_cluster(x, k):
    import faiss

    model = faiss.Kmeans(1, k, niter=25, seed=1, max_points_per_centroid=len(x), verbose=False)
    model.train(np.ascontiguousarray(x.reshape(-1, 1)))
    model.index.search(np.ascontiguousarray(x.reshape(-1, 1)), 1)
    return model.centroids.ravel()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", type=int, default=1_000_000)
    parser.add_argument("--k", type=int, nargs="+", default=[3, 17])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--skip", nargs="*", default=[])
    args = parser.parse_args()
    x = np.random.default_rng(0).standard_t(5, args.values).astype(np.float32)
    binary = build()
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "values.npy")
        np.save(file, x)
        programs = {
            "slq exact": ours(binary, "exact", file),
            "slq fast": ours(binary, "fast", file),
            "slq sort": ours(binary, "sort", file),
            "kmeans1d": timed(kmeans1d_cluster),
            "flash1dkmeans": timed(flash_cluster),
            "scikit-learn tol=1e-2": timed(sklearn_cluster({"tol": 1e-2})),
            "scikit-learn": timed(sklearn_cluster({})),
            "faiss 25 passes": timed(faiss_cluster),
        }
        programs = {name: run for name, run in programs.items() if name.split()[0] not in args.skip}
        small = x[:2000]
        for name, run in programs.items():
            if not name.startswith("slq"):
                run(small, 3)  # imports and just-in-time compilation do not count
        print(f"{args.values} values, Student-t(5), float32, one thread, least of {args.repeats}")
        print(f"{'program':<24}{'k':>5}{'seconds':>10}{'cpu s':>10}{'x exact':>9}{'x fast':>9}{'above optimum':>15}")
        for k in args.k:
            best = {}
            for _ in range(args.repeats):
                for name, run in programs.items():
                    result = run(x, k)
                    old = best.get(name, result)
                    best[name] = (min(old[0], result[0]), min(old[1], result[1]), *result[2:])
            exact, fast = best["slq exact"], best["slq fast"]
            for name, (cpu, seconds, error, _) in best.items():
                above = f"{error / exact[3] - 1:.1e}" if error else "-"
                ratios = f"{cpu / exact[0]:>9.2f}{cpu / fast[0]:>9.1f}"
                print(f"{name:<24}{k:>5}{seconds:>10.4f}{cpu:>10.4f}{ratios}{above:>15}", flush=True)


if __name__ == "__main__":
    main()
