"""slq: calibration without labels, written as .slq with entropy-coded codes."""

import os
import shlex
import subprocess

TITLE, ENVIRONMENT, PACKAGES, USES_INPUTS = "slq", "common", [], True


def setting(name, flags, images=128):
    return {"name": name, "flags": flags, "images": images}


SETTINGS = [
    setting("4 bits, tensor", "--bits 4"),
    setting("6 bits, tensor", "--bits 6"),
    setting("5 bits, tensor", "--bits 5"),
    setting("5 bits, tensor, rate 0.01", "--bits 5 --rate 0.01"),
    setting("5 bits, tensor, rate 0.03", "--bits 5 --rate 0.03"),
    setting("4 bits, tensor, rate 0.01", "--bits 4 --rate 0.01"),
    setting("4 bits, tensor, rate 0.03", "--bits 4 --rate 0.03"),
    setting("3 bits, tensor", "--bits 3"),
    setting("4 bits, channel", "--bits 4 --granularity channel"),
    setting("4 bits, channel, rate 0.03", "--bits 4 --granularity channel --rate 0.03"),
    setting("3 bits, channel", "--bits 3 --granularity channel"),
]


def measured(command):
    """Runs a command; its most resident memory in megabytes."""
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(errors.strip())
    return usage.ru_maxrss / 1e3


def run(setting, job):
    packed, dense = job.folder / "small.slq", job.folder / "dense.onnx"
    common = ["--threads", job.threads, "--quiet"]
    with job.clock:
        job.memory = measured(
            [job.slq, "compress", job.network, "--calibrate", job.calibration_file]
            + ["--calibration-images", setting["images"], *shlex.split(setting["flags"])]
            + ["-o", packed, "--run-dir", job.folder / "run", *common]
        )
    measured([job.slq, "convert", packed, dense, "--dense", *common])
    return {"artefact": [packed], "network": dense}
