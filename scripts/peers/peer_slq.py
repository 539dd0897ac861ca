"""slq: calibration without labels, written as .slq with entropy-coded codes, and the same with batch-norms collapsed."""

import hashlib
import json
import os
import shlex
import shutil
import subprocess

TITLE, ENVIRONMENT, PACKAGES, USES_INPUTS = "slq", "common", [], True


COLLAPSE = "--collapse-batch-norm"


def setting(name, flags, images=128, collapse=False):
    name += ", batch-norm collapsed" if collapse else ""
    return {"name": name, "flags": flags, "images": images, "collapse": collapse}


SETTINGS = [
    *[setting(f"{b} bits, tensor", f"--bits {b}") for b in (4, 5, 6, 3, 8)],
    *[setting(f"5 bits, tensor, rate {r}", f"--bits 5 --rate {r}") for r in (0.1, 0.05, 0.02, 0.2)],
]
# Sizes that the program finds width and price for; a LeNet has more to spare.
SIZES, SIZES_OF_LENET = (5, 7, 9, 12), (7, 10, 12, 20, 40)


def settings(network):
    """The settings that suit a network: the LeNets have no batch-norm."""
    if network.startswith("lenet"):
        return [*SETTINGS, *[setting(f"target {n}x", f"--target-size {n}x") for n in SIZES_OF_LENET]]
    sizes = [setting(f"target {n}x, batch-norm collapsed", f"--target-size {n}x {COLLAPSE}") for n in SIZES]
    both = [setting(s["name"], s["flags"], collapse=c) for s in SETTINGS for c in (False, True)]
    return [*both, *sizes]


def measured(command):
    """Runs a command; its most resident memory in megabytes, and its processor seconds."""
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(errors.strip())
    return usage.ru_maxrss / 1e3, usage.ru_utime + usage.ru_stime


def calibrated(setting, job):
    """Folder with small.slq and small.onnx of the setting's flags, made once for all settings that start from them."""
    label = json.dumps([setting["flags"], setting["images"], job.calibration_file.name, job.threads])
    folder = job.shared.parent / "slq" / ("made-" + hashlib.sha256(label.encode()).hexdigest()[:12])
    told = folder / "told.json"
    if not told.exists():
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
        folder.mkdir(parents=True)
        with job.clock:
            memory, processor = measured(
                [job.slq, "compress", job.network, "--calibrate", job.calibration_file]
                + ["--calibration-images", setting["images"], *shlex.split(setting["flags"]), "--threads", job.threads]
                + ["-o", folder / "small.slq", "-o", folder / "small.onnx", "--run-dir", folder / "run", "--quiet"]
            )
        told.write_text(json.dumps({"seconds": job.clock.seconds, "processor": processor, "memory": memory}))
    known = json.loads(told.read_text())
    job.clock.seconds, job.clock.processor, job.memory = known["seconds"], known["processor"], known["memory"]
    return folder


def run(setting, job):
    packed, dense = calibrated(setting, job) / "small.slq", job.folder / "dense.onnx"
    quiet = ["--threads", job.threads, "--quiet"]
    if setting["collapse"]:
        import onnx

        if not any(node.op_type == "BatchNormalization" for node in onnx.load(job.network).graph.node):
            raise ValueError("the network has no batch-norm to collapse")
        whole, packed = packed, job.folder / "small.slq"
        measured([job.slq, "convert", whole, packed, COLLAPSE, *quiet])
    measured([job.slq, "convert", packed, dense, "--dense", *quiet])
    return {"artefact": [packed], "network": dense}
