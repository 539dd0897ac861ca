#!/usr/bin/env python3
"""Writes the seeds that are not copies of the readers' fixtures. usage: fuzz/make-seeds.py"""
import io
import json
import pathlib
import re
import struct
import zipfile
import zlib

HERE = pathlib.Path(__file__).parent
SEEDS = HERE / "seeds"


def put(name, data):
    path = SEEDS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def npy(dtype, shape, data):
    head = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    head += " " * (63 - (10 + len(head)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + data


def safetensors(tensors):
    header, data = {}, b""
    for name, (dtype, shape, values) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def number(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return value, at


def parts(data):
    """The parts of a .slq file as the target `container` takes them (src/parts.rs)."""
    page = (HERE.parent / "docs/slq-format.md").read_text()
    words = re.search(r"<!-- dictionary -->\n```text\n(.*?)\n```", page, re.S).group(1).replace("\n", "").encode()
    at, (_, behind) = struct.unpack_from("<I", data, 8)[0], number(data, 12)
    count, behind = number(data, behind)
    sections = []
    for _ in range(count):
        kind, (length, behind) = data[behind], number(data, behind + 1)
        sections.append((kind, data[at : at + length]))
        at, behind = at + length, behind + 4
    (_, network), rest = sections[0], sections[1:]
    content = network[number(network, 1)[1] :]
    if network[0] == 1:
        content = zlib.decompressobj(-15, zdict=words).decompress(content)
    table = b"".join(struct.pack("<BH", kind, len(section)) for kind, section in rest)
    return bytes([len(rest)]) + table + b"".join(section for _, section in rest) + content


def members(path, names):
    """Entries of a zip archive as the targets `pytorch` and `npz` take them (src/parts.rs); missing ones are empty."""
    with zipfile.ZipFile(path) as archive:
        there = {re.sub("^[^/]*/", "", name): archive.read(name) for name in archive.namelist()}
    found = [there.get(name, b"") for name in names]
    return b"parts" + b"".join(struct.pack("<H", len(f)) + f for f in found[:-1]) + found[-1]


def main():
    floats = struct.pack("<6f", 0.5, -1.0, 2.0, 3.0, 4.0, 5.0)
    put("npy/floats.npy", npy("<f4", "(2, 3)", floats))
    put("npy/bytes.npy", npy("|u1", "(4,)", b"\0\1\2\xff"))
    put("npy/integers.npy", npy("<i8", "(2,)", struct.pack("<2q", 7, -1)))
    half = struct.pack("<2e", 0.5, -1.0)
    put("safetensors/plain.safetensors", safetensors({"a": ("F32", [2, 3], floats), "b": ("F16", [2], half)}))
    images = struct.pack(">4i", 0x803, 3, 2, 2) + bytes(range(12))
    labels = struct.pack(">2i", 0x801, 3) + b"\0\1\2"
    put("idx/three", struct.pack(">H", len(labels)) + labels + images)
    put("cifar/two", b"".join(bytes([label]) + bytes((label * 7 + i) % 256 for i in range(3072)) for label in (1, 4)))
    photo = (SEEDS / "image/photo.jpg").read_bytes()
    for name, method in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as archive:
            for folder in ("train/cat", "train/dog", "test/cat", "test/dog"):
                archive.writestr(zipfile.ZipInfo(f"{folder}/1.jpg"), photo[: 1200 if "dog" in folder else None])
        put(f"zip/{name}.zip", out.getvalue())
    # A pixel, and a palette of two.
    put("image/pixel.pgm", b"P5 1 1 255\n\x80")
    put("image/dot.gif", b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\1\0\1\0\0\2\2D\1\0;")
    put(
        "solver/lenet.prototxt",
        "net: 'net.prototxt'\ntest_iter: 100 test_interval: 500\nbase_lr: 0.01 lr_policy: 'inv' gamma: 1e-4 power: 0.75\n"
        "momentum: 0.9 weight_decay: 5e-4 max_iter: 10000\nsnapshot: 5000 snapshot_prefix: 'lenet' solver_mode: GPU\n",
    )
    put("solver/adam.prototxt", "train_net: 'a' test_net: 'b' test_iter: 1 base_lr: 1 type: 'Adam' lr_policy: 'step' gamma: 1 stepsize: 3 max_iter: 9")
    # iter = 7, learned_net = "a.caffemodel", one blob of two values, current_step = 1.
    blob = b"\x3a\x03\x0a\x01\x02" + b"\x2a\x08" + struct.pack("<2f", 1.0, 2.0)
    put("solverstate/small", b"\x08\x07\x12\x0ca.caffemodel\x1a" + bytes([len(blob)]) + blob + b"\x20\x01")
    put("recipe/short.toml", "[[stages]]\n[stages.quantize]\nbits = 4\nslq.training.lr = 0.02\n")
    put(
        "recipe/long.toml",
        "format = 2\nmodel = 'net.onnx'\noutputs = ['small.onnx']\nseed = 3\n[data]\ndata = 'images.zip'\nmean = [0.5]\n"
        "[[stages]]\n[stages.fine-tune.training]\nlength = { epochs = 1.5 }\nlr-policy = 'step:0.1:200'\n"
        "[[stages]]\n[stages.decompose]\nconvolutions = 'spatial'\nranks = { macs = 2.84 }\nlayers = ['conv1=auto', 'fc=12']\n"
        "[[stages]]\n[stages.quantize]\nmethod = 'mlq'\nbits = 2\ngranularity = 'group:4'\nmlq.schedule = [2, 4]\n"
        "budget = { ratio = 20.0 }\n[[stages]]\n[stages.tune]\n",
    )
    for path in sorted((SEEDS / "container").glob("*.slq")):
        put(f"container/{path.stem}.parts", parts(path.read_bytes()))
    for name in ("training", "parameters", "module"):
        names = [f"data/{i}" for i in range(10)] + ["data.pkl"]
        put(f"pytorch/{name}.parts", members(SEEDS / f"pytorch/{name}.pth", names))
    arrays = [f"{what}.npy" for what in ("y_test", "x_test", "y_train", "x_train")]
    put("npz/keras.parts", members(SEEDS / "npz/keras.npz", arrays))
    put("clustering/nine", bytes([2, 8, 0]) + bytes(range(10, 250, 27)))
    put("clustering/ties", bytes([3, 6, 1, 128, 128, 128, 5, 5, 200]))
    put("graph/small", bytes((i * 73 + 11) % 256 for i in range(600)))


if __name__ == "__main__":
    main()
