"""Runs the node tests of the `onnx` package through `slq run`, for every operator that slq claims.

    python scripts/onnx-node-tests.py [--slq target/release/slq] [--isa scalar|avx2|avx512] [--list]

A test is applicable when all its operators are claimed (the list is read from slq-graph's source) and none of the
reasons in `not_applicable` holds. The model and its inputs go to slq as they are; where slq wants a constant (weights,
axes, bounds), the test is repeated with all inputs but the first stored in the model, and counted apart. Outputs are compared
with the tolerances of the test. Prints what failed, what is not applicable and why, and the count; exit status 1 when
an applicable test fails.
"""

import argparse
import collections
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESOLVE = ROOT / "crates/core/graph/src/resolve/mod.rs"
WINDOWS = {"Conv", "ConvTranspose", "MaxPool", "AveragePool"}
# Inputs that are integers in every use.
INTEGER_INPUTS = {
    "Reshape": {1}, "Squeeze": {1}, "Unsqueeze": {1}, "Split": {1}, "Slice": {1, 2, 3, 4}, "Pad": {1, 3},
    "ReduceMean": {1}, "ReduceSum": {1},
}


def claimed():
    """The operators that slq-graph resolves."""
    found = set(re.findall(r'^        "(\w+)" =>', RESOLVE.read_text(), re.M))
    if "Conv" not in found:
        sys.exit(f"no operators found in {RESOLVE}: has it been rearranged?")
    return found


def attribute(node, name, default=None):
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def not_applicable(model, inputs, outputs):
    """Why a test of claimed operators asks for something that slq does not claim; None when it does not."""
    graph = model.graph
    ints = {n.input[i] for n in graph.node for i in INTEGER_INPUTS.get(n.op_type, ()) if i < len(n.input)}
    types = {v.name: v.type.tensor_type.elem_type for v in [*graph.input, *graph.output]}
    if any(not v.type.HasField("tensor_type") for v in [*graph.input, *graph.output]):
        return "sequences and optional values"
    for name, kind in types.items():
        allowed = {TensorProto.FLOAT, TensorProto.INT64} if name in ints else {TensorProto.FLOAT}
        masks = {o for n in graph.node for o in n.output[1:]}
        if kind not in allowed and name not in masks:
            return "an element type other than float (activations are float)"
    for node in graph.node:
        if attribute(node, "training_mode", 0) or (node.op_type == "Dropout" and len(node.input) > 2):
            return "training mode (slq run is inference)"
        if node.op_type in {"MaxPool", "Dropout"} and len(node.output) > 1 and node.output[1]:
            return f"second output of {node.op_type}"
        if node.op_type in WINDOWS and node.input[0] == graph.input[0].name:
            spatial = len(inputs[0].shape) - 2
            if spatial != 2:
                return f"window over {spatial} spatial axes"
    if any(np.asarray(a).dtype == np.float32 and np.size(a) == 0 for a in [*inputs, *outputs]):
        return "empty tensors"
    return None


def with_constants(model, inputs):
    """The model with all inputs but the first stored in it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value, array in zip(list(copy.graph.input)[1:], inputs[1:]):
        copy.graph.initializer.append(numpy_helper.from_array(array, value.name))
        copy.graph.input.remove(value)
    return copy


def run(args, folder, model, inputs):
    """The outputs in order, or the sentence that slq ended with."""
    onnx.save(model, folder / "m.onnx")
    call = [args.slq, "run", folder / "m.onnx", "-o", folder / "y.npy", "--json", "--quiet"]
    call += ["--isa", args.isa] if args.isa else []
    for i, (value, array) in enumerate(zip(model.graph.input, inputs)):
        np.save(folder / f"{i}.npy", np.asarray(array, order="C"))
        call += ["--input", f"{value.name}={folder}/{i}.npy"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        return None, (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return [np.load(o["path"]) for o in json.loads(done.stdout)["outputs"]], None


def differs(test, want, got):
    if len(want) != len(got):
        return f"{len(got)} outputs instead of {len(want)}"
    for expected, found in zip(want, got):
        expected = np.asarray(expected)
        if expected.shape != found.shape:
            return f"shape {found.shape} instead of {expected.shape}"
        if not np.allclose(found, expected, rtol=test.rtol, atol=test.atol, equal_nan=True):
            return f"off by up to {np.nanmax(np.abs(found - expected)):.3g}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slq", default=ROOT / "target/release/slq")
    parser.add_argument("--isa", help="instruction set")
    parser.add_argument("--only", default="", help="tests whose name contains this")
    parser.add_argument("--list", action="store_true", help="name every test, not only those that failed")
    args = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        tests = load_model_tests(kind="node")
    operators = claimed()
    passed, failed, apart = [], [], collections.defaultdict(list)
    constant, per_operator = 0, collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for test in tests:
            nodes = test.model.graph.node
            ours = all(n.domain in ("", "ai.onnx") and n.op_type in operators for n in nodes)
            if not ours or args.only not in test.name:
                continue
            (inputs, outputs), = test.data_sets
            reason = not_applicable(test.model, inputs, outputs)
            if reason:
                apart[reason].append(test.name)
                continue
            got, error = run(args, folder, test.model, inputs)
            if error and len(inputs) > 1:
                got, error = run(args, folder, with_constants(test.model, inputs), inputs[:1])
                constant += error is None
            error = error or differs(test, outputs, got)
            (failed if error else passed).append((test.name, error))
            if not error:
                per_operator.update({n.op_type for n in nodes})
    for reason, names in sorted(apart.items()):
        print(f"not applicable, {reason}: {len(names)}" + (f": {', '.join(names)}" if args.list else ""))
    for name, error in failed:
        print(f"FAILED {name}: {error}")
    if args.list:
        for name, _ in passed:
            print(f"passed {name}")
    untested = sorted(operators - set(per_operator))
    print(f"operators claimed: {len(operators)}; in no passed test: {', '.join(untested) or 'none'}")
    print(
        f"onnx {onnx.__version__}: {len(passed)} of {len(passed) + len(failed)} applicable node tests passed "
        f"({constant} of them with parameters as constants); {sum(map(len, apart.values()))} not applicable"
    )
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
