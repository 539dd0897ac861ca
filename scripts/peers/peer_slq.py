"""slq: calibration without labels, written as .slq with entropy-coded codes.

Settings with `fraction` go one step further than the program does by itself: every batch-norm of the calibrated network is
collapsed into one scale and one shift for each channel, whose fractions are rounded to so many bits, and `slq convert` packs the
result again. Means of 0 and variances of 1 take no bytes to speak of, nor do the low bytes that rounding empties.
"""

import hashlib
import json
import os
import shlex
import shutil
import subprocess

TITLE, ENVIRONMENT, PACKAGES, USES_INPUTS = "slq", "common", [], True


def setting(name, flags, images=128, fraction=None):
    name += f", batch-norm collapsed, {fraction} bits" if fraction else ""
    return {"name": name, "flags": flags, "images": images, "fraction": fraction}


def both(name, flags, fraction=8):
    return [setting(name, flags), setting(name, flags, fraction=fraction)]


SETTINGS = [
    *both("4 bits, tensor", "--bits 4"),
    *both("5 bits, tensor, rate 0.03", "--bits 5 --rate 0.03"),
    *both("5 bits, tensor, rate 0.1", "--bits 5 --rate 0.1"),
    *both("4 bits, tensor, rate 0.03", "--bits 4 --rate 0.03"),
    *both("5 bits, tensor, rate 0.01", "--bits 5 --rate 0.01"),
    *both("5 bits, tensor", "--bits 5"),
    *both("6 bits, tensor", "--bits 6"),
    *both("4 bits, channel, rate 0.03", "--bits 4 --granularity channel --rate 0.03"),
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


def rounded(x, bits):
    """float32 values with the fraction rounded to so many bits."""
    import numpy as np

    fraction, exponent = np.frexp(np.asarray(x, np.float64))
    return np.ldexp(np.round(np.ldexp(fraction, bits + 1)), exponent - bits - 1).astype(np.float32)


def collapsed(source, target, bits):
    """Writes an ONNX file whose batch-norms have mean 0 and variance 1, and scales and shifts with short fractions."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    model = onnx.load(source)
    values = {i.name: i for i in model.graph.initializer}
    if not any(node.op_type == "BatchNormalization" for node in model.graph.node):
        raise ValueError("the network has no batch-norm to collapse")
    for node in model.graph.node:
        if node.op_type != "BatchNormalization":
            continue
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        gamma, beta, mean, variance = [numpy_helper.to_array(values[n]).astype(np.float64) for n in node.input[1:5]]
        scale = rounded(gamma / np.sqrt(variance + epsilon), bits)
        parts = (scale, rounded(beta - mean * scale, bits), np.zeros_like(mean), np.full_like(variance, 1 - epsilon))
        for name, value in zip(node.input[1:5], parts):
            values[name].CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
    onnx.save(model, target)


def run(setting, job):
    packed, dense = calibrated(setting, job) / "small.slq", job.folder / "dense.onnx"
    quiet = ["--threads", job.threads, "--quiet"]
    if setting["fraction"]:
        short = job.folder / "short.onnx"
        collapsed(packed.with_suffix(".onnx"), short, setting["fraction"])
        packed = job.folder / "small.slq"
        measured([job.slq, "convert", short, packed, *quiet])
    measured([job.slq, "convert", packed, dense, "--dense", *quiet])
    return {"artefact": [packed], "network": dense}
