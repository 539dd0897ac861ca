#!/usr/bin/env python3
"""Runs short jobs of every method and prints the SHA-256 of each ONNX file they write.

usage: golden.py SLQ FOLDER [--threads N] [--isa scalar,avx2,avx512] [--only PART] [--check]

SLQ is the program, FOLDER takes what the jobs write. The jobs stand in crates/cli/tests/golden/jobs.txt, the hashes of
earlier runs in hashes.txt beside it. Each line printed is `name isa sha256 sha256-without-metadata`: the second hash leaves out
the file's metadata (preprocessing, description of palettes), so that it tells whether the network itself changed.
Instruction sets that this machine lacks and jobs whose model or data are missing are named on stderr and skipped.

  golden.py target/release/slq target/golden > crates/cli/tests/golden/hashes.txt      stores the hashes
  golden.py target/release/slq target/golden --check                                   compares with those stored
"""
import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "crates" / "cli" / "tests" / "golden"
SHARED = Path(os.environ.get("SLQ_DATA", ROOT.parent / "shared"))


def jobs():
    """(name, arguments) of every job in jobs.txt."""
    section, common = "", []
    for line in (GOLDEN / "jobs.txt").read_text().splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            section, words = line[1:].split("]", 1)
            common = words.split()
            continue
        name, words = line.split(":", 1)
        yield f"{section}/{name}", [w.format(repo=ROOT, shared=SHARED) for w in words.split() + common]


def without_metadata(data):
    """The bytes of a serialised ONNX ModelProto less field 14, `metadata_props`."""
    out, at = bytearray(), 0

    def varint(at):
        value, shift = 0, 0
        while True:
            byte = data[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return value, at

    while at < len(data):
        start = at
        key, at = varint(at)
        field, wire = key >> 3, key & 7
        if wire == 0:
            _, at = varint(at)
        elif wire == 2:
            length, at = varint(at)
            at += length
        else:
            at += {1: 8, 5: 4}[wire]
        if field != 14:
            out += data[start:at]
    return bytes(out)


def available(slq, isa):
    """Whether the program runs with this instruction set here."""
    call = [slq, "bench", "zoo:lenet-300-100", "--batch", "1", "--seconds", "0.01", "--isa", isa, "--quiet"]
    return subprocess.run(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slq", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", default="2")
    parser.add_argument("--isa", default="scalar,avx2,avx512")
    parser.add_argument("--only", default="", help="jobs whose name holds this text")
    parser.add_argument("--check", action="store_true", help="compare with hashes.txt; exit status 1 if one differs")
    args = parser.parse_args()
    slq = args.slq.resolve()
    args.folder.mkdir(parents=True, exist_ok=True)
    stored, wrong = {}, 0
    if args.check:
        lines = [line.split() for line in (GOLDEN / "hashes.txt").read_text().splitlines() if not line.startswith("#")]
        stored = {(name, isa): hashes for name, isa, *hashes in lines}
    print("# Written by scripts/golden.py: name, instruction set, SHA-256 of the ONNX file, the same without its metadata.")
    for isa in args.isa.split(","):
        if not available(slq, isa):
            print(f"skipped: this machine has no {isa}", file=sys.stderr)
            continue
        for name, words in jobs():
            if args.only not in name:
                continue
            missing = [w for w in words if "/" in w and not w.startswith("-") and not Path(w).exists()]
            if missing:
                print(f"skipped {name}: no {missing[0]}", file=sys.stderr)
                continue
            stem = f"{name.replace('/', '-')}-{isa}"
            out = args.folder / f"{stem}.onnx"
            out.unlink(missing_ok=True)
            call = [slq, *words, "--isa", isa, "--threads", args.threads, "--quiet", "-o", out]
            if words[0] == "compress":
                shutil.rmtree(args.folder / f"{stem}-run", ignore_errors=True)
                call += ["--run-dir", args.folder / f"{stem}-run"]
            began = time.perf_counter()
            done = subprocess.run(call, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            seconds = time.perf_counter() - began
            if done.returncode != 0:
                print(f"FAILED {name} {isa}: {done.stderr.strip()}", file=sys.stderr)
                wrong += 1
                continue
            data = out.read_bytes()
            hashes = [hashlib.sha256(part).hexdigest() for part in (data, without_metadata(data))]
            print(name, isa, *hashes, flush=True)
            print(f"{name} {isa}: {seconds:.1f} s", file=sys.stderr)
            if args.check and stored.get((name, isa)) != hashes:
                what = "is not in hashes.txt"
                if (name, isa) in stored:
                    what = "differs in its metadata" if stored[name, isa][1] == hashes[1] else "DIFFERS"
                print(f"{what}: {name} {isa}", file=sys.stderr)
                wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
