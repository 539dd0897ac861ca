"""Compares .tflite files with the .onnx files of the same networks: LiteRT for float32, the interpreter of TensorFlow Lite for
Microcontrollers for packed weights, onnxruntime as the reference.

usage: check-tflite.py ONNX TFLITE [ONNX TFLITE ...] [--tolerance 1e-4]

Both files of a pair hold the same network with the same palettes. A file with the operator TFLM_DECODE is run by the
microcontrollers' interpreter; any other by both. For each pair one line: largest difference of an output, bytes, arena. Fails
where outputs differ by more than the tolerance times the largest output (at least 1), or where the codes of a weight take more
than b/32 of its float bytes. Needs onnxruntime, numpy, ai-edge-litert and tflite-micro; says by name what is missing, and
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


def litert(path, inputs):
    interpreter = Interpreter(model_path=path)
    interpreter.allocate_tensors()
    for detail, x in zip(interpreter.get_input_details(), inputs):
        interpreter.set_tensor(detail["index"], last(x))
    interpreter.invoke()
    return [first(interpreter.get_tensor(d["index"])) for d in interpreter.get_output_details()]


def micro(path, inputs):
    with open(path, "rb") as file:
        content = file.read()
    interpreter = runtime.Interpreter.from_bytes(content, arena_size=ARENA)
    for i, x in enumerate(inputs):
        interpreter.set_input(last(x), i)
    interpreter.invoke()
    outputs = []
    while True:
        try:
            outputs.append(first(np.array(interpreter.get_output(len(outputs)))))
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
        assert len(tables) == 16 + 4 * several * int(tables[6]), f"{weight.Name()}: {len(tables)} bytes of tables"
        sums = [a + b for a, b in zip(sums, (len(codes), len(tables), 4 * count))]
    return sums


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


def check(onnx, tflite, tolerance):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    with open(tflite, "rb") as file:
        packed = b"TFLM_DECODE" in file.read()
    worst, arena = {}, None
    for _ in range(IMAGES):
        inputs = []
        for i in session.get_inputs():
            shape = [d if isinstance(d, int) else 1 for d in i.shape]
            inputs.append(random.standard_normal(shape).astype(np.float32))
        expected = session.run(None, {i.name: x for i, x in zip(session.get_inputs(), inputs)})
        (found, arena), _ = quiet(lambda: micro(tflite, inputs))
        worst["tflm"] = max(worst.get("tflm", 0), compare(expected, found, tolerance, f"{tflite} in TFLM"))
        if not packed:
            found, _ = quiet(lambda: litert(tflite, inputs))
            worst["litert"] = max(worst.get("litert", 0), compare(expected, found, tolerance, f"{tflite} in LiteRT"))
    size, dense = os.path.getsize(tflite), os.path.getsize(onnx)
    differences = ", ".join(f"{k} {v:.2e}" for k, v in worst.items())
    kind = "float"
    if packed:
        codes, tables, floats = packed_weights(tflite)
        kind = f"packed (codes {codes}, tables {tables}, as floats {floats})"
    print(f"{os.path.basename(tflite)}: {kind}, {differences}; {size} bytes (.onnx {dense}), arena {arena} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("files", nargs="+", metavar="ONNX TFLITE")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    args = parser.parse_args()
    if len(args.files) % 2:
        parser.error("give the files in pairs")
    failed = 0
    for onnx, tflite in zip(args.files[::2], args.files[1::2]):
        try:
            check(onnx, tflite, args.tolerance)
        except Exception as error:  # the next pair is still of interest
            print(f"FAILED {error}")
            failed += 1
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
