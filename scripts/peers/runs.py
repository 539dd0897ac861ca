"""Runs settings of peers and judges what comes out: one folder for each setting and way, kept, so that nothing runs twice."""

import importlib
import io
import json
import os
import signal
import subprocess
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import zstandard

from . import environments, evaluate, weights
from .networks import prepare

PEERS = [
    "peer_slq",
    "peer_nncodec",
    "peer_coremltools",
    "peer_coreai",
    "peer_nncf",
    "peer_onnxruntime",
    "peer_aimet",
    "peer_ai_edge",
]

# Calibration inputs on which the divergence from float is measured, to choose among our files.
CHOSEN_BY = 128


@dataclass
class Row:
    """One setting of one peer on one network."""

    peer: str
    setting: str
    error: str = ""
    bytes: int = 0
    zstd: int = 0
    seconds: float = 0.0  # of the processor
    wall: float = 0.0
    peak: float = 0.0
    note: str = ""
    right: np.ndarray = None  # for each test image, pooled over the ways
    kl: float = 0.0  # mean divergence from float on the calibration inputs
    kl_test: float = 0.0
    difference: tuple = (0.0, 0.0)
    bytes_of_ways: list = field(default_factory=list)


def modules():
    return [importlib.import_module(name) for name in PEERS]


def all_bytes(paths):
    """Bytes of files and folders, and of the same as one tar file after zstd -19 (a single file as it is)."""
    files = [f for p in map(Path, paths) for f in (sorted(p.rglob("*")) if p.is_dir() else [p]) if f.is_file()]
    plain = sum(f.stat().st_size for f in files)
    if len(files) == 1:
        content = files[0].read_bytes()
    else:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for file in files:
                info = tarfile.TarInfo(file.name)
                info.size = file.stat().st_size
                archive.addfile(info, io.BytesIO(file.read_bytes()))
        content = buffer.getvalue()
    return plain, len(zstandard.ZstdCompressor(level=19).compress(content))


def sized(path):
    """The result of a run, with the bytes of its files."""
    result = json.loads(path.read_text())
    if "error" not in result and "bytes" not in result:
        result["bytes"], result["zstd"] = all_bytes(result["artefact"])
        path.write_text(json.dumps(result))
    return result


class Comparison:
    """All peers on one network."""

    def __init__(self, name, options):
        self.name, self.options = name, options
        self.shared = options.out / name / "network"
        self.network = prepare(name, options.models, options.data, self.shared, options.slq)
        self.float_right, self.float_outputs = [], []
        for way in range(self.network.ways):
            found = {p: self.float(p, way) for p in ("test", "calibration")}
            self.float_outputs.append(found)
            self.float_right.append(evaluate.right(found["test"], np.load(self.shared / f"labels-{way}.npy")))

    def float(self, part, way):
        """Outputs of the float network, kept."""
        path = self.shared / f"float-{part}-{way}.npy"
        if not path.exists():
            np.save(path, evaluate.outputs(self.shared / "float.onnx", self.inputs(part, way), self.options.threads))
        return np.load(path)

    def inputs(self, part, way):
        """Test inputs, or those calibration inputs that files are chosen by."""
        return np.load(self.shared / f"{part}-{way}.npy", mmap_mode="r")[: CHOSEN_BY if part == "calibration" else None]

    def settings(self, peer):
        """The peer's settings, or those of them that suit the network."""
        return peer.settings(self.name) if hasattr(peer, "settings") else peer.SETTINGS

    def row(self, peer, setting):
        """Runs one setting in all ways; a failure becomes the row's message. None where `--kept` finds nothing."""
        row = Row(peer.TITLE, setting["name"])
        rights, kl, kl_test, sizes, zstds, seconds, walls, peaks = [], [], [], [], [], [], [], []
        for way in range(self.network.ways):
            folder, result = self.job(peer, setting, way)
            if result is None:
                return None
            if "error" in result:
                row.error = result["error"]
                return row
            found = self.judged(folder, result, way)
            if "error" in found:
                row.error = found["error"]
                return row
            rights.append(found["right"])
            kl.append(found["kl"])
            kl_test.append(found["kl_test"])
            sizes.append(result["bytes"])
            zstds.append(result["zstd"])
            seconds.append(result.get("processor", np.nan))
            walls.append(result["seconds"])
            peaks.append(result["peak"])
            row.note = result["note"]
        row.right = np.concatenate(rights)
        row.difference = evaluate.paired(row.right, np.concatenate(self.float_right))
        row.kl, row.kl_test = float(np.mean(kl)), float(np.mean(kl_test))
        row.bytes_of_ways, row.bytes, row.zstd = sizes, round(np.mean(sizes)), round(np.mean(zstds))
        row.seconds, row.wall, row.peak = float(np.nanmean(seconds)), float(np.mean(walls)), max(peaks)
        return row

    def job(self, peer, setting, way):
        """Folder and result of one run; a peer that sees no inputs runs once for all ways."""
        way = way if peer.USES_INPUTS else 0
        label = environments.key(json.dumps(setting, sort_keys=True), way)
        folder = self.options.out / self.name / peer.TITLE.replace(" ", "-") / label
        path = folder / "result.json"
        if path.exists():
            return folder, sized(path)
        if self.options.kept:
            return folder, None
        folder.mkdir(parents=True, exist_ok=True)
        try:
            interpreter = environments.python(self.options.venvs, peer.ENVIRONMENT)
        except environments.InstallError as error:
            return folder, {"error": str(error)}
        description = {
            "module": peer.__name__.split(".")[-1],
            "setting": setting,
            "way": way,
            "shared": str(self.shared.resolve()),
            "slq": str(self.options.slq),
            "threads": self.options.threads,
        }
        (folder / "job.json").write_text(json.dumps(description, indent=1))
        self.options.say(f"{self.name}: {peer.TITLE}, {setting['name']}, way {way}")
        error = run_worker(interpreter, folder, self.options)
        if not path.exists():
            path.write_text(json.dumps({"error": error}))
        return folder, sized(path)

    def judged(self, folder, result, way):
        """Hits on the test images and divergence from float on both parts."""
        try:
            outputs = {part: self.outputs(folder, result, part, way) for part in ("test", "calibration")}
        except Exception as error:
            return {"error": f"evaluation: {type(error).__name__}: {str(error).splitlines()[0][:200]}"}
        wanted = self.float_outputs[way]
        return {
            "right": evaluate.right(outputs["test"], np.load(self.shared / f"labels-{way}.npy")),
            "kl": evaluate.divergence(wanted["calibration"], outputs["calibration"]),
            "kl_test": evaluate.divergence(wanted["test"], outputs["test"]),
        }

    def outputs(self, folder, result, part, way):
        kept = folder / f"{part}-{way}-outputs.npy"
        own = folder / f"{part}-outputs.npy"
        if own.exists():  # of the peer's own runtime; its float network must agree with the evaluator's
            wanted, found = self.float_outputs[way]["test"][:100], np.load(folder / "float-outputs.npy")
            if np.abs(wanted - found).max() > 1e-2 * max(1, np.abs(wanted).max()):
                raise weights.UnmatchedError("the peer's runtime computes another float network")
            return np.load(own)
        if not kept.exists():
            model = result.get("network")
            if model is None:
                filled = folder / "filled.onnx"
                if not filled.exists():
                    weights.fill(self.shared / f"{result['graph']}.onnx", dict(np.load(folder / "weights.npz")), filled)
                model = filled
            np.save(kept, evaluate.outputs(model, self.inputs(part, way), self.options.threads))
        return np.load(kept)


def run_worker(interpreter, folder, options):
    """Runs worker.py; what it says goes to a log. Returns a message for a process that left no result."""
    threads = {f"{n}_NUM_THREADS": str(options.threads) for n in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
    command = [str(interpreter), str(Path(__file__).parent / "worker.py"), str(folder / "job.json")]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **threads}, cwd=folder, start_new_session=True
        )
        try:
            process.wait(options.limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with the programs that it has started
            process.wait()
            return f"stopped after {options.limit} s"
    return f"the process ended with status {process.returncode}"
