"""nncodec: the reference software of ISO/IEC 15938-17 by Fraunhofer HHI, DeepCABAC behind trellis-coded quantization.

The bit stream holds parameters and no graph. Parameters of batch-norm are named to it as what they are, so that they take its
finer steps ("nonweight"), and are folded as the standard has it (`bnf`) where the setting says so.
"""

import onnx
from onnx import numpy_helper

TITLE, ENVIRONMENT, PACKAGES, USES_INPUTS = "nncodec", "nncodec", ["nncodec", "torch"], False


def setting(name, **arguments):
    return {"name": name, "arguments": arguments}


SETTINGS = [
    setting("qp -40, opt_qp, bnf", qp=-40, opt_qp=True, bnf=True),
    setting("qp -44, opt_qp, bnf", qp=-44, opt_qp=True, bnf=True),
    setting("qp -42, opt_qp, bnf", qp=-42, opt_qp=True, bnf=True),
    setting("qp -38, opt_qp, bnf", qp=-38, opt_qp=True, bnf=True),
    setting("qp -36, opt_qp, bnf", qp=-36, opt_qp=True, bnf=True),
    setting("qp -32, opt_qp, bnf", qp=-32, opt_qp=True, bnf=True),
    setting("qp -40, opt_qp", qp=-40, opt_qp=True),
    setting("qp -40", qp=-40),
]


def parameters(path):
    """All float parameters of an ONNX file, and what each is: weight, bias or a part of a batch-norm, by blocks."""
    graph = onnx.load(path).graph
    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer if i.data_type == onnx.TensorProto.FLOAT}
    values = {n: v for n, v in values.items() if v.size > 1}
    kinds, blocks = {}, dict.fromkeys(values)
    producer = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            known = [n for n in node.input[1:] if n in values]
            for name in known:
                kinds[name] = "weight" if values[name].ndim > 1 else "bias"
                blocks[name] = node.name or node.output[0]
        elif node.op_type == "BatchNormalization":
            behind = producer.get(node.input[0])
            for name, kind in zip(node.input[1:5], ("bn.gamma", "bn.beta", "bn.mean", "bn.var")):
                kinds[name] = kind
                if behind is not None and behind.op_type == "Conv":
                    blocks[name] = behind.name or behind.output[0]
    for name, value in values.items():
        kinds.setdefault(name, "weight" if value.ndim > 1 else "unspecified")
    return values, {"parameter_type": kinds, "block_identifier": blocks}


def run(setting, job):
    from nncodec import nnc

    values, structure = parameters(job.network)
    packed = job.folder / "network.nnc"
    arguments = {"nonweight_qp": -75, "use_dq": True, "param_opt": True, "row_skipping": True, **setting["arguments"]}
    with job.clock:
        nnc.compress(
            values, bitstream_path=str(packed), block_id_and_param_type=structure, return_bitstream=True, verbose=False, **arguments
        )
    folded = bool(arguments.get("bnf"))
    decoded = nnc.decompress(str(packed), block_id_and_param_type=structure, reconstruct_bnf=folded, reconstruct_lsa=True)
    return {"artefact": [packed], "weights": decoded, "note": "parameters alone, no graph"}
