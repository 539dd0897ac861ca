#!/usr/bin/env python3
"""Makes the built-in sample (crates/data/sample) from the four MNIST files.

usage: make-sample.py MNIST_FOLDER OUT_FOLDER

Takes 800 training images and 200 test images of every digit, in the order of the original files, and writes them as gzip'd
IDX files. The same input gives the same bytes.
"""

import gzip
import struct
import sys
from pathlib import Path

PER_CLASS = {"train": 800, "t10k": 200}


def read(folder, stem):
    for name in (stem + ".gz", stem):
        path = folder / name
        if path.exists():
            data = path.read_bytes()
            return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    sys.exit(f"{folder}: no file {stem}[.gz]")


def write(path, data):
    # No name and no time in the gzip header: the output depends on the input alone.
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as out:
        out.write(data)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    for split, quota in PER_CLASS.items():
        images = read(source, f"{split}-images-idx3-ubyte")
        labels = read(source, f"{split}-labels-idx1-ubyte")[8:]
        _, count, rows, cols = struct.unpack(">IIII", images[:16])
        assert count == len(labels)
        pixels, size = images[16:], rows * cols
        taken = [0] * 10
        keep = []
        for i, label in enumerate(labels):
            if taken[label] < quota:
                taken[label] += 1
                keep.append(i)
        assert taken == [quota] * 10, taken
        body = b"".join(pixels[i * size : (i + 1) * size] for i in keep)
        write(target / f"{split}-images-idx3-ubyte.gz", struct.pack(">IIII", 0x803, len(keep), rows, cols) + body)
        write(target / f"{split}-labels-idx1-ubyte.gz", struct.pack(">II", 0x801, len(keep)) + bytes(labels[i] for i in keep))


main()
