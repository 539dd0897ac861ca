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


def both(name, flags):
    return [setting(name, flags), setting(name, flags, collapse=True)]


SETTINGS = [
    *both("4 bits, tensor", "--bits 4"),
    *both("5 bits, tensor, rate 0.1", "--bits 5 --rate 0.1"),
    *both("5 bits, tensor, rate 0.05", "--bits 5 --rate 0.05"),
    *both("5 bits, tensor, rate 0.02", "--bits 5 --rate 0.02"),
    *both("5 bits, tensor, rate 0.2", "--bits 5 --rate 0.2"),
    *both("5 bits, tensor", "--bits 5"),
    *both("6 bits, tensor", "--bits 6"),
    *both("3 bits, tensor", "--bits 3"),
]


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
