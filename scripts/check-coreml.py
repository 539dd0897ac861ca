#!/usr/bin/env python3
"""Checks Core ML packages that slq writes, without a Mac: coremltools opens each, rebuilds its program and infers every type;
the decoded tables are compared bit for bit with the dense weights; a small interpreter in numpy computes the program, and its
outputs are compared with onnxruntime's on the same network; the size is compared with codes, tables and floats.

    python scripts/check-coreml.py SLQ MODEL...      (a file, or zoo:NAME, which is quantized to 4 bits first)

Needs: pip install coremltools onnx onnxruntime numpy
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import coremltools as ct
import mil_interpreter
import numpy as np
import onnx
import onnxruntime
from coremltools.converters.mil.frontend.milproto import load as milproto
from coremltools.converters.mil.frontend.milproto.helper import proto_to_types
from coremltools.converters.mil.mil import types
from onnx import numpy_helper

TOLERANCE = 1e-4
SLACK = 20_000


def identifier(name):
    name = re.sub(r"[^A-Za-z0-9]", "_", name)
    return "_" + name if not name or name[0].isdigit() else name


def rebuild(package):
    """The program as coremltools rebuilds it; every output of an operation has the type that the file declares."""
    model = ct.models.MLModel(str(package), skip_model_load=True)
    spec = model.get_spec()
    program = milproto.load(spec, spec.specificationVersion, model.weights_dir)
    declared = {}
    for op in spec.mlProgram.functions["main"].block_specializations["CoreML8"].operations:
        declared.update({o.name: proto_to_types(o.type) for o in op.outputs})
    for op in program.functions["main"].operations:
        for v in op.outputs:
            if v.name in declared and op.op_type != "const":
                want = declared[v.name]
                assert types.is_tensor(want), v.name
                assert tuple(want.get_shape()) == tuple(v.shape), f"{v.name}: {want.get_shape()} {v.shape}"
                assert want.get_primitive() == v.dtype, f"{v.name}: {v.dtype}"
    return spec, program


def check_tables(program, dense):
    """Decoded weights equal the dense ones bit for bit; the number of looked-up weights and their bytes of codes and tables."""
    weights = {identifier(w.name): numpy_helper.to_array(w) for w in onnx.load(dense).graph.initializer}
    count, stored = 0, 0
    for op in program.functions["main"].operations:
        if op.op_type != "constexpr_lut_to_dense":
            continue
        name = op.outputs[0].name
        ours = weights[name]
        theirs = [op.materialized_val_inference(), mil_interpreter.lut_to_dense(op.indices.val, op.lut.val)]
        for decoded in theirs:
            assert decoded.shape == ours.shape, name
            assert np.array_equal(decoded.view(np.uint32), ours.view(np.uint32)), f"{name}: other values"
        bits = int(np.log2(op.lut.shape[-2]))
        count, stored = count + 1, stored + (ours.size * bits + 7) // 8 + 4 * op.lut.val.size
        weights[name] = None
    floats = sum(w.nbytes for w in weights.values() if w is not None and w.dtype == np.float32)
    return count, stored, floats


def package_bytes(package):
    return sum(f.stat().st_size for f in package.rglob("*") if f.is_file())


def inputs_for(model, spec):
    random = np.random.default_rng(0)
    given, renamed = {}, {}
    names = json.loads(spec.description.metadata.userDefined.get("slq.names", "{}"))
    for feature in spec.description.input:
        shape = tuple(feature.type.multiArrayType.shape)
        original = names.get(feature.name, feature.name)
        want = next(i for i in model.get_inputs() if i.name == original)
        if "int" in want.type:
            value = random.integers(0, 8, shape)
        else:
            value = random.standard_normal(shape).astype(np.float32)
        given[original] = value.astype(np.int64) if "int64" in want.type else value
        renamed[feature.name] = value.astype(np.int32) if "int" in want.type else value
    return given, renamed, names


def check(slq, model, folder, flags):
    stem = re.sub(r"\W", "-", model.split("/")[-1])
    package, small, dense = (folder / f"{stem}.{e}" for e in ("mlpackage", "onnx", "dense.onnx"))

    def call(*args):
        done = subprocess.run([slq, *map(str, args), "--quiet"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    if model.startswith("zoo:"):
        call("compress", model, "--method", "kmeans", "--bits", 4, "-o", small)
        call("convert", small, package, *flags)
    else:
        call("convert", model, package, *flags)
        call("convert", model, small)
    call("convert", small, dense, "--dense")
    spec, program = rebuild(package)
    tables, stored, floats = check_tables(program, dense)
    session = onnxruntime.InferenceSession(str(small), providers=["CPUExecutionProvider"])
    given, renamed, names = inputs_for(session, spec)
    theirs = dict(zip([o.name for o in session.get_outputs()], session.run(None, given)))
    ours = mil_interpreter.run(program, renamed)
    worst = 0.0
    for name, value in ours.items():
        want = theirs[names.get(name, name)]
        assert want.shape == value.shape, f"{name}: {value.shape} for {want.shape}"
        scale = max(1.0, float(np.abs(want).max()))
        assert np.isfinite(value).all() or not np.isfinite(want).all(), name
        worst = max(worst, float(np.abs(want - value).max()) / scale)
    assert worst <= TOLERANCE, f"outputs differ by {worst:.1e}"
    total, ideal = package_bytes(package), stored + floats
    assert total <= 1.03 * ideal + SLACK, f"{total} bytes for {ideal} of codes, tables and floats"
    operations = len(program.functions["main"].operations)
    print(
        f"{stem}: {tables} tables bit for bit, outputs within {worst:.1e}, {operations} operations, {total} bytes "
        f"({ideal} of codes, tables and floats; {total - ideal} more)"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slq", help="the program")
    parser.add_argument("models", nargs="+", help="x.onnx, x.slq, or zoo:NAME")
    parser.add_argument("--dense", action="store_true", help="write float32 weights")
    args = parser.parse_args()
    flags = ["--dense"] if args.dense else ["--round-up-widths"]
    with tempfile.TemporaryDirectory() as folder:
        for model in args.models:
            check(args.slq, model, pathlib.Path(folder), flags)


if __name__ == "__main__":
    sys.exit(main())
