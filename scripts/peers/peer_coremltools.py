"""coremltools: palettization by k-means and linear quantization of Core ML packages, without data."""

TITLE, ENVIRONMENT, PACKAGES, USES_INPUTS = "coremltools", "coreml", ["coremltools", "scikit-learn"], False


def palettes(name, bits, base="float", **more):
    return {"name": name, "kind": "palettes", "base": base, "config": {"mode": "kmeans", "nbits": bits, **more}}


def groups(bits, size, **more):
    return palettes(
        f"k-means {bits} bits, {size} channel{'s' if size > 1 else ''}" + (", scales" if more else ""),
        bits,
        granularity="per_grouped_channel",
        group_size=size,
        **more,
    )


SETTINGS = [
    palettes("k-means 6 bits, tensor", 6),
    palettes("k-means 8 bits, tensor", 8),
    palettes("k-means 4 bits, tensor", 4),
    palettes("k-means 3 bits, tensor", 3),
    groups(4, 4),
    groups(4, 1),
    groups(6, 4),
    groups(4, 4, enable_per_channel_scale=True),
    palettes("k-means 6 bits, tensor, scales", 6, enable_per_channel_scale=True),
    palettes("k-means 6 bits, tensor, folded, float16", 6, base="float16"),
    palettes("k-means 8 bits, tensor, folded, float16", 8, base="float16"),
    {"name": "linear int8, channel", "kind": "linear", "base": "float", "config": {"mode": "linear_symmetric", "dtype": "int8"}},
    {
        "name": "linear int4, blocks of 32",
        "kind": "linear",
        "base": "float",
        "config": {"mode": "linear_symmetric", "dtype": "int4", "granularity": "per_block", "block_size": 32},
    },
]


def load(job, base):
    """The float package; for float16 as coremltools' own converter leaves it, with batch-norm folded."""
    import coremltools as ct

    model = ct.models.MLModel(str(job.shared / "float.mlpackage"), skip_model_load=True)
    if base == "float":
        return model
    from coremltools.converters.mil.frontend.milproto import load as milproto

    spec = model.get_spec()
    program = milproto.load(spec, spec.specificationVersion, model.weights_dir)
    return ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=ct.precision.FLOAT16,
        skip_model_load=True,
    )


def matrices(network, arrays):
    """For each weight of the ONNX file with two axes or more the array of the package that stands for it; an error if none does."""
    import onnx
    from onnx import numpy_helper
    from weights import nearest

    values = {i.name: numpy_helper.to_array(i) for i in onnx.load(network).graph.initializer}
    return nearest({n: v for n, v in values.items() if v.ndim > 1 and v.dtype == "float32"}, arrays)


def run(setting, job):
    import coremltools.optimize.coreml as cto

    model = load(job, setting["base"])
    if setting["kind"] == "palettes":
        config = cto.OptimizationConfig(global_config=cto.OpPalettizerConfig(**setting["config"]))
        compress = cto.palettize_weights
    else:
        config = cto.OptimizationConfig(global_config=cto.OpLinearQuantizerConfig(**setting["config"]))
        compress = cto.linear_quantize_weights
    with job.clock:
        small = compress(model, config)
    package = job.folder / "small.mlpackage"
    small.save(str(package))
    dense = cto.decompress_weights(small)
    found = {n: m.val for n, m in cto.get_weights_metadata(dense, weight_threshold=1).items()}
    if setting["base"] == "float":  # batch-norm stands in the package as scale and shift, which stay as they are
        return {"artefact": [package], "weights": matrices(job.network, list(found.values()))}
    return {"artefact": [package], "weights": {f"package/{n}": v for n, v in found.items()}, "graph": "folded"}
