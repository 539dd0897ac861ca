#!/usr/bin/env python3
"""Writes the networks of the tests of shape inference and of the engine, one operator or a few each, as small ONNX files: what
the target `network` begins with beside its seeds. usage: fuzz/make-networks.py FOLDER"""
import json
import pathlib
import struct
import sys

CRATES = pathlib.Path(__file__).parent.parent / "crates"
FLOAT, INT64 = 1, 7
KINDS = {"float32": (FLOAT, "f"), "int32": (6, "i"), "int64": (INT64, "q"), "bool": (9, "?")}


def varint(n):
    n &= (1 << 64) - 1
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def attribute(name, value):
    value = value["s"] if isinstance(value, dict) else value
    head = field(1, name)
    if isinstance(value, int):
        return head + field(3, value) + field(20, 2)
    if isinstance(value, float):
        return head + field(2, value) + field(20, 1)
    if isinstance(value, str):
        return head + field(4, value) + field(20, 3)
    if any(isinstance(v, float) for v in value):
        return head + b"".join(field(7, float(v)) for v in value) + field(20, 6)
    return head + b"".join(field(8, v) for v in value) + field(20, 7)


def tensor(name, kind, shape, raw):
    return b"".join(field(1, d) for d in shape) + field(2, kind) + field(8, name) + field(9, raw)


def declared(name, kind, shape=None):
    dims = b"" if shape is None else field(2, b"".join(field(1, field(1, d)) for d in shape))
    return field(1, name) + field(2, field(1, field(1, kind) + dims))


def model(opset, nodes, inputs, tensors):
    """Nodes are (op, inputs, outputs, attributes); every value that no node reads is an output, flattened for the loss."""
    last = [n for n in dict.fromkeys(n for _, _, outputs, _ in nodes for n in outputs) if n]
    read = {name for _, names, _, _ in nodes for name in names}
    last = [name for name in last if name not in read]
    nodes = nodes + [("Flatten", [name], [f"{name}.flat"], {"axis": 1}) for name in last]
    graph = b""
    for op, names, outputs, attributes in nodes:
        node = b"".join(field(1, n) for n in names) + b"".join(field(2, n) for n in outputs) + field(4, op)
        graph += field(1, node + b"".join(field(5, attribute(k, v)) for k, v in attributes.items()))
    graph += field(2, "g") + b"".join(field(5, t) for t in tensors) + b"".join(field(11, i) for i in inputs)
    graph += b"".join(field(12, declared(f"{name}.flat", FLOAT)) for name in last)
    return field(1, 8) + field(7, graph) + field(8, field(2, opset))


def integers(name, values, shape=None):
    values = values if isinstance(values, list) else [values]
    shape = [len(values)] if shape is None else shape
    return tensor(name, INT64, shape, struct.pack(f"<{len(values)}q", *values))


def shapes():
    for case in json.loads((CRATES / "core/graph/tests/fixtures/shapes.json").read_text()):
        tensors = []
        for name, weight in case["weights"].items():
            if "ints" in weight:
                tensors.append(integers(name, weight["ints"]))
                continue
            count = 1
            for extent in weight["shape"]:
                count *= extent
            if count <= 500:
                values = struct.pack(f"<{count}f", *((i * 37 % 17 - 8) / 8 for i in range(count)))
                tensors.append(tensor(name, FLOAT, weight["shape"], values))
        nodes = [(n["op"], n["in"], n["out"], n["at"]) for n in case["nodes"]]
        inputs = [declared(name, FLOAT, shape) for name, shape in case["inputs"].items()]
        if len(tensors) == len(case["weights"]):
            yield model(case["opset"], nodes, inputs, tensors)


def numbers(name, value):
    kind, code = KINDS[value["type"]]
    values = [float(v) if kind == FLOAT else v for v in value["values"]]
    return tensor(name, kind, value["shape"], struct.pack(f"<{len(values)}{code}", *values))


def steps(case):
    return [(n["op"], n["inputs"], n["outputs"], n["attributes"]) for n in case["nodes"]]


def onnxruntime():
    for case in json.loads((CRATES / "compute/engine/tests/fixtures/onnxruntime.json").read_text()):
        inputs = [declared(n, KINDS[v["type"]][0], v["shape"]) for n, v in case["data"].items()]
        yield model(case["opset"], steps(case), inputs, [numbers(n, v) for n, v in case["constants"].items()])


def operators():
    fixtures = CRATES / "compute/engine/tests/fixtures"
    data = (fixtures / "reference.safetensors").read_bytes()
    begin = 8 + struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:begin])
    for case in json.loads((fixtures / "operators.json").read_text()):
        entry = lambda name: header[f"{case['name']}/{name}"]
        raw = lambda name: data[begin:][slice(*entry(name)["data_offsets"])]
        inputs = [declared(n, FLOAT, entry(n)["shape"]) for n in case["data"]]
        tensors = [tensor(n, FLOAT, entry(n)["shape"], raw(n)) for n in case["weights"] + case["floats"]]
        yield model(case["opset"], steps(case), inputs, tensors + [integers(n, v) for n, v in case["ints"].items()])


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for source in (shapes, onnxruntime, operators):
        for i, bytes_ in enumerate(source()):
            if len(bytes_) <= 4096:
                (folder / f"{source.__name__}{i}").write_bytes(bytes_)


if __name__ == "__main__":
    main()
