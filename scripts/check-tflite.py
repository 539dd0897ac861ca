"""Compares .tflite files with the .onnx files of the same networks: LiteRT for float32, the interpreter of TensorFlow Lite for
Microcontrollers for packed weights, onnxruntime as the reference.

usage: check-tflite.py ONNX TFLITE [ONNX TFLITE ...] [--tolerance 1e-4] [--noise 25]

Both files of a pair hold the same network with the same palettes. A file with the operator TFLM_DECODE is run by the
microcontrollers' interpreter; any other by both. For each pair one line: largest difference of an output, bytes, arena. Fails
where outputs differ by more than the tolerance times the largest output (at least 1), or where the codes of a weight take more
than b/32 of its float bytes. The outputs of a file with integers are those of floats with noise: it fails where their
signal-to-noise ratio is below --noise dB. Inputs are random or, of a file x.tflite beside x.npz, the first of its arrays. Needs onnxruntime, numpy, ai-edge-litert and tflite-micro; says by name what is missing, and
leaves with status 77 then.
"""

import argparse
import os
import re
import sys
import tempfile

try:
    import numpy as np
    import onnxruntime as ort
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter
    from tflite_micro.python.tflite_micro import runtime
except ImportError as missing:
    print(f"SKIPPED: {missing}: pip install onnxruntime numpy ai-edge-litert tflite-micro")
    sys.exit(77)

IMAGES = 3
ARENA = 1 << 28


def quiet(call):
    """Result of `call`, and what the native code under it wrote to stderr and stdout."""
    with tempfile.TemporaryFile() as log:
        kept = [os.dup(1), os.dup(2)]
        sys.stdout.flush()
        try:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            result = call()
        finally:
            for descriptor, copy in zip((1, 2), kept):
                os.dup2(copy, descriptor)
                os.close(copy)
        log.seek(0)
        return result, log.read().decode(errors="replace")


def last(x):
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x


def first(x):
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x


def stored(x, dtype, scale, zero):
    """`x` as the interpreter takes it."""
    return x if dtype != np.int8 else np.clip(np.round(x / scale) + zero, -128, 127).astype(np.int8)


def meant(x, scale, zero):
    """What the interpreter's result stands for."""
    return x if x.dtype != np.int8 else (x.astype(np.float32) - zero) * scale


def litert(path, inputs):
    interpreter = Interpreter(model_path=path)
    interpreter.allocate_tensors()
    for detail, x in zip(interpreter.get_input_details(), inputs):
        interpreter.set_tensor(detail["index"], stored(last(x), detail["dtype"], *detail["quantization"]))
    interpreter.invoke()
    details = interpreter.get_output_details()
    return [first(meant(interpreter.get_tensor(d["index"]), *d["quantization"])) for d in details]


def of_micro(details):
    """Scale and zero point of a value in the microcontrollers' interpreter; 1 and 0 for floats."""
    found = details["quantization_parameters"]
    pick = lambda name, other: found[name][0] if len(found[name]) else other
    return pick("scales", 1.0), pick("zero_points", 0)


def micro(path, inputs):
    with open(path, "rb") as file:
        content = file.read()
    interpreter = runtime.Interpreter.from_bytes(content, arena_size=ARENA)
    for i, x in enumerate(inputs):
        details = interpreter.get_input_details(i)
        interpreter.set_input(stored(last(x), details["dtype"], *of_micro(details)), i)
    interpreter.invoke()
    outputs = []
    while True:
        try:
            result = np.array(interpreter.get_output(len(outputs)))
            outputs.append(first(meant(result, *of_micro(interpreter.get_output_details(len(outputs))))))
        except (IndexError, RuntimeError, ValueError):
            break
    _, log = quiet(interpreter.print_allocations)
    arena = re.search(r"Arena allocation total (\d+)", log)
    return outputs, int(arena[1]) if arena else None


def packed_weights(path):
    """Bytes of codes, of tables, and of the same weights as floats, read by the schema of LiteRT."""
    with open(path, "rb") as file:
        model = schema.Model.GetRootAsModel(file.read(), 0)
    graph = model.Subgraphs(0)
    sums = [0, 0, 0]
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        if model.OperatorCodes(operator.OpcodeIndex()).CustomCode() != b"TFLM_DECODE":
            continue
        codes, tables = (
            model.Buffers(graph.Tensors(operator.Inputs(k)).Buffer()).DataAsNumpy() for k in (0, 1))
        weight = graph.Tensors(operator.Outputs(0))
        count, bits = int(np.prod(weight.ShapeAsNumpy())), int(tables[5])
        assert len(codes) <= (count * bits + 7) // 8, f"{weight.Name()}: {len(codes)} bytes of codes"
        several = weight.Quantization().ScaleLength() if weight.Quantization() else 1
        bytes_each = 1 if weight.Type() == schema.TensorType.INT8 else 4
        assert len(tables) == 16 + bytes_each * several * int(tables[6]), f"{weight.Name()}: {len(tables)} bytes of tables"
        sums = [a + b for a, b in zip(sums, (len(codes), len(tables), 4 * count))]
    return sums


def input_type(path):
    with open(path, "rb") as file:
        graph = schema.Model.GetRootAsModel(file.read(), 0).Subgraphs(0)
    return graph.Tensors(graph.Inputs(0)).Type()


def compare(expected, found, tolerance, what):
    assert found, f"{what}: no output"
    worst = 0.0
    for a, b in zip(expected, found):
        assert a.shape == b.shape, f"{what}: shape {b.shape} instead of {a.shape}"
        limit = tolerance * max(1.0, float(np.abs(a).max()))
        difference = float(np.abs(a - b).max())
        assert difference <= limit, f"{what}: outputs differ by {difference:.3g}, more than {limit:.3g}"
        worst = max(worst, difference)
    return worst


def samples(session, tflite):
    """Inputs, each a list of arrays in the session's order."""
    random = np.random.default_rng(0)
    beside = os.path.splitext(tflite)[0] + ".npz"
    given = np.load(beside) if os.path.exists(beside) else None
    for at in range(IMAGES):
        inputs = []
        for i in session.get_inputs():
            shape = [d if isinstance(d, int) else 1 for d in i.shape]
            x = random.standard_normal(shape) if given is None else given[i.name][at * shape[0] : (at + 1) * shape[0]]
            inputs.append(np.asarray(x, np.float32))
        yield inputs


def noise(expected, found, least, what):
    """Signal-to-noise ratio in dB over all runs, output by output; the worst one."""
    worst = np.inf
    for i in range(len(expected[0])):
        a, b = (np.concatenate([run[i].ravel() for run in runs]) for runs in (expected, found))
        ratio = 10 * np.log10(np.square(a).sum() / max(np.square(a - b).sum(), 1e-30))
        assert ratio >= least, f"{what}: {ratio:.1f} dB of signal to noise, less than {least}"
        worst = min(worst, ratio)
    return worst


def check(onnx, tflite, tolerance, least):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    with open(tflite, "rb") as file:
        packed = b"TFLM_DECODE" in file.read()
    expected, runs, arena = [], {"tflm": []} | ({} if packed else {"litert": []}), None
    for inputs in samples(session, tflite):
        expected.append(session.run(None, {i.name: x for i, x in zip(session.get_inputs(), inputs)}))
        (found, arena), _ = quiet(lambda: micro(tflite, inputs))
        runs["tflm"].append(found)
        if not packed:
            runs["litert"].append(quiet(lambda: litert(tflite, inputs))[0])
    integers = schema.TensorType.INT8 == input_type(tflite)
    worst = {}
    for name, found in runs.items():
        if integers:
            worst[name] = noise(expected, found, least, f"{tflite} in {name}")
        else:
            worst[name] = max(compare(a, b, tolerance, f"{tflite} in {name}") for a, b in zip(expected, found))
    size, dense = os.path.getsize(tflite), os.path.getsize(onnx)
    differences = ", ".join(f"{k} {v:.1f} dB" if integers else f"{k} {v:.2e}" for k, v in worst.items())
    kind = "int8" if integers else "float"
    if packed:
        codes, tables, floats = packed_weights(tflite)
        kind = f"{kind}, packed (codes {codes}, tables {tables}, as floats {floats})"
    print(f"{os.path.basename(tflite)}: {kind}, {differences}; {size} bytes (.onnx {dense}), arena {arena} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("files", nargs="+", metavar="ONNX TFLITE")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--noise", type=float, default=25)
    args = parser.parse_args()
    if len(args.files) % 2:
        parser.error("give the files in pairs")
    failed = 0
    for onnx, tflite in zip(args.files[::2], args.files[1::2]):
        try:
            check(onnx, tflite, args.tolerance, args.noise)
        except Exception as error:  # the next pair is still of interest
            print(f"FAILED {error}")
            failed += 1
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
