"""Runs one setting of one peer, as a process of its own in the peer's environment, and writes what came of it.

usage: worker.py JOB.json      (written by compare-peers.py; `result.json` is written beside it)

A peer is a module with `run(setting, job)`, which returns a dictionary:

    artefact   the files that a user would ship
    weights    float weights that the artefact decodes to, by name; or
    network    an ONNX file that computes what the artefact computes; or
    outputs    a function from inputs to outputs, where only the peer's own runtime runs its files
    graph      the float network that the weights belong to: float (the default) or folded
    note       a sentence for the table

Only the time inside `with job.clock` counts.
"""

import importlib
import json
import resource
import sys
import time
import traceback
from pathlib import Path

import numpy as np


class Clock:
    """Adds up wall time and processor time."""

    def __init__(self):
        self.seconds, self.processor = 0.0, 0.0

    def __enter__(self):
        self.began = time.perf_counter(), time.process_time()

    def __exit__(self, *_):
        self.seconds += time.perf_counter() - self.began[0]
        self.processor += time.process_time() - self.began[1]


class Job:
    """What a peer is given: a folder for its files, the network in several formats, inputs to calibrate on."""

    def __init__(self, folder, description):
        self.folder = folder
        self.shared = Path(description["shared"])
        self.network = self.shared / "float.onnx"
        self.folded = self.shared / "folded.onnx"
        self.calibration_file = self.shared / f"calibration-{description['way']}.npy"
        self.slq = description["slq"]
        self.threads = description["threads"]
        self.clock = Clock()
        self.memory = None

    def calibration(self, images):
        """The first `images` calibration inputs, float32 [images, ..]."""
        return np.load(self.calibration_file, mmap_mode="r")[:images]

    def peak(self):
        """Most resident memory in megabytes: of this process, unless the peer has measured its own."""
        return self.memory or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main():
    path = Path(sys.argv[1])
    description = json.loads(path.read_text())
    job = Job(path.parent, description)
    peer = importlib.import_module(description["module"])
    try:
        found = peer.run(description["setting"], job)
        result = {
            "artefact": [str(a) for a in found["artefact"]],
            "graph": found.get("graph", "float"),
            "note": found.get("note", ""),
            "seconds": job.clock.seconds,
            "processor": job.clock.processor,
            "peak": job.peak(),
        }
        if "weights" in found:
            np.savez(job.folder / "weights.npz", **found["weights"])
        elif "network" in found:
            result["network"] = str(found["network"])
        else:
            for part in ("test", "calibration", "float"):
                kind, most = {"test": ("test", None), "calibration": ("calibration", 128), "float": ("test", 100)}[part]
                inputs = np.load(job.shared / f"{kind}-{description['way']}.npy", mmap_mode="r")[:most]
                np.save(job.folder / f"{part}-outputs.npy", found["float_outputs" if part == "float" else "outputs"](inputs))
    except Exception as error:  # a peer's failure is a row of the table
        traceback.print_exc()
        result = {"error": f"{type(error).__name__}: {error}".split("\n")[0][:300]}
    (job.folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
