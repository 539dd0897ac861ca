"""Runs the node tests of the `onnx` package through `slq run`.

    python scripts/onnx-node-tests.py [--slq target/release/slq] [--isa scalar|avx2|avx512] [--list] [--only NAME]

Counted are all tests of the default domain whose inputs and outputs are 32-bit floats, integers or Booleans. The model
and its inputs go to slq as they are; where slq wants a constant (weights, axes, bounds), the test is repeated with all
inputs but the first stored in the model, and counted apart. Outputs are compared with the tolerances of the test.
Prints what came out wrong, what slq refuses and why, the operators that it does not know, and the share that passes;
exit status 1 when a test gives wrong values.
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
from onnx import TensorProto, numpy_helper

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Tests whose values contradict PyTorch's and onnxruntime's, which slq follows.
DISPUTED = {
    "test_resize_downsample_scales_linear_align_corners": "aligned corners of an extent that is no whole number",
    "test_resize_downsample_scales_cubic_align_corners": "aligned corners of an extent that is no whole number",
}
KINDS = {
    TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64,
    TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64,
}


def counted(model):
    """Whether a test is of the default domain and of the types that slq computes with."""
    values = [*model.graph.input, *model.graph.output]
    domain = all(n.domain in ("", "ai.onnx") for n in model.graph.node)
    return domain and all(v.type.HasField("tensor_type") and v.type.tensor_type.elem_type in KINDS for v in values)


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
    if not len(model.graph.input):
        return None, "the network has no inputs"
    done = subprocess.run(call, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        return None, (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return [np.load(o["path"]) for o in json.loads(done.stdout)["outputs"]], None


def differs(test, want, got):
    """What is wrong with the values; None where nothing is."""
    if len(want) != len(got):
        return f"{len(got)} outputs instead of {len(want)}"
    for expected, found in zip(want, got):
        expected = np.asarray(expected)
        if expected.shape != found.shape:
            return f"shape {found.shape} instead of {expected.shape}"
        if not np.allclose(found, expected, rtol=test.rtol, atol=test.atol, equal_nan=True):
            off = np.abs(found.astype(np.float64) - expected.astype(np.float64))
            return f"off by up to {np.nanmax(off):.3g}"
    return None


def reason(message):
    """The sentence of a refusal without the names of nodes, values and shapes."""
    message = re.sub(r"; `--method kmeans`.*|\(1 of them.*?\)", "", message)
    message = re.sub(r"`[^`]*`|'[^']*'", "..", message)
    return re.sub(r"\[[\d, ]*\]|-?\d+(\.\d+)?", "#", message)[:140]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slq", default=ROOT / "target/release/slq")
    parser.add_argument("--isa", help="instruction set")
    parser.add_argument("--only", default="", help="tests whose name contains this")
    parser.add_argument("--list", action="store_true", help="name every test, not only those that came out wrong")
    args = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        tests = [t for t in load_model_tests(kind="node") if args.only in t.name]
    counts = [t for t in tests if counted(t.model)]
    passed, wrong, disputed, refused = [], [], [], collections.defaultdict(list)
    constant = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for test in counts:
            (inputs, outputs), = test.data_sets
            if any(np.size(a) == 0 for a in [*inputs, *outputs]):
                refused["an empty tensor"].append(test.name)
                continue
            got, error = run(args, folder, test.model, inputs)
            if error and len(inputs) > 1:
                again, other = run(args, folder, with_constants(test.model, inputs), inputs[:1])
                if other is None:
                    got, error, constant = again, None, constant + 1
            if error:
                refused[reason(error)].append(test.name)
                continue
            difference = differs(test, outputs, got)
            if not difference:
                passed.append(test.name)
            elif test.name in DISPUTED:
                disputed.append(test.name)
            else:
                wrong.append((test.name, difference))
    for why, names in sorted(refused.items(), key=lambda item: -len(item[1])):
        print(f"refused, {why}: {len(names)}" + (f": {', '.join(names)}" if args.list else f", such as {names[0]}"))
    for name in disputed:
        print(f"other values than the test's, {DISPUTED[name]}: {name}")
    for name, difference in wrong:
        print(f"WRONG {name}: {difference}")
    if args.list:
        for name in passed:
            print(f"passed {name}")
    share = len(passed) / max(len(counts), 1)
    print(
        f"onnx {onnx.__version__}: {len(passed)} of {len(counts)} node tests of floats and integers passed ({share:.0%}; "
        f"{constant} with parameters as constants), {len(wrong) + len(disputed)} gave other values, "
        f"{sum(map(len, refused.values()))} were refused; {len(tests) - len(counts)} tests of other types are not counted"
    )
    sys.exit(1 if wrong or not passed else 0)


if __name__ == "__main__":
    main()
