"""Virtual environments of the peers, with pinned versions: one for each set of packages that agree with each other."""

import hashlib
import subprocess
import sys
from pathlib import Path

# What this script itself needs: images, networks, the evaluator, zstd.
COMMON = ["numpy==2.4.6", "onnx==1.23.2", "onnxruntime==1.32.0", "pillow==13.0.0", "zstandard==0.25.0"]
# onnxruntime's quantizers want them, and do not say so to pip.
COMMON += ["sympy==1.14.0", "onnx_ir==1.1.0"]

REQUIREMENTS = {
    "common": COMMON,
    "coreml": ["coremltools==9.0", "scikit-learn==1.9.0", "onnx==1.23.2", "numpy<2.4"],
    "openvino": ["nncf==3.4.0", "openvino==2026.4.1", "onnx==1.23.2"],
    "edge": ["ai-edge-quantizer==0.10.0"],
    "pytorch": ["torch==2.15.0"],
    "nncodec": ["nncodec==2.1.3", "onnx==1.23.2"],
    "coreai": ["coreai-opt==0.4.0", "coremltools==9.0", "onnx2torch==1.5.15", "onnx==1.23.2", "scikit-learn==1.9.0"],
    "aimet": ["aimet-onnx==2.42.0", "onnxruntime==1.32.0"],
}

# PyTorch takes gigabytes, so one environment holds it for all that want it.
BASES = {"nncodec": "pytorch", "coreai": "pytorch", "aimet": "pytorch"}


class InstallError(Exception):
    """An environment that could not be made; the text is the last line that its tool printed."""


def ready(folder, name):
    """Interpreter of the environment `name` under `folder`; None where it is missing or its pins have changed."""
    home = Path(folder) / name
    stamp = home / "pins.txt"
    return home / "bin" / "python" if stamp.exists() and stamp.read_text() == pins(name) else None


def pins(name):
    return "\n".join(REQUIREMENTS[name]) + "\n"


def python(folder, name):
    """Interpreter of the environment `name` under `folder`, which is made where it is not ready."""
    if ready(folder, name):
        return ready(folder, name)
    home = Path(folder) / name
    interpreter = home / "bin" / "python"
    log = Path(folder) / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    logged(log, [sys.executable, "-m", "venv", "--clear", home])
    if name in BASES:
        base = python(folder, BASES[name]).parent.parent
        for packages in home.glob("lib/python*/site-packages"):
            (packages / "base.pth").write_text(f"{next(base.glob('lib/python*/site-packages'))}\n")
    logged(log, [interpreter, "-m", "pip", "install", "--no-cache-dir", *REQUIREMENTS[name]])
    (home / "pins.txt").write_text(pins(name))
    return interpreter


def logged(log, command):
    """Runs a command that must succeed; what it prints is appended to the log."""
    with log.open("a") as out:
        done = subprocess.run([str(c) for c in command], stdout=out, stderr=subprocess.STDOUT)
    if done.returncode:
        lines = [line for line in log.read_text().splitlines() if "ERROR" in line or "error:" in line]
        raise InstallError(f"environment {log.stem}: {(lines or [f'exit status {done.returncode}'])[-1][:300]}")


def versions(interpreter, packages):
    """Versions of the packages that are installed there, as a text; empty where there is no environment."""
    if interpreter is None:
        return ""
    code = (
        "import importlib.metadata as m, sys\n"
        "for p in sys.argv[1:]:\n"
        "    try: print(p, m.version(p))\n"
        "    except m.PackageNotFoundError: pass"
    )
    done = subprocess.run([str(interpreter), "-c", code, *packages], capture_output=True, text=True)
    return ", ".join(done.stdout.split("\n")[:-1])


def key(*parts):
    """A short name for a run, from all that decides its result."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:12]
