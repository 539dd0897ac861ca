"""NNCF: weight compression of OpenVINO models; only adaptive codebooks look at inputs."""

TITLE, ENVIRONMENT, PACKAGES, USES_INPUTS = "NNCF", "openvino", ["nncf", "openvino"], True


def setting(name, mode, **arguments):
    return {"name": name, "mode": mode, "arguments": arguments}


# Groups of 32, and smaller ones in layers whose channels 32 does not divide.
SETTINGS = [
    setting("int4 symmetric, groups of 32", "INT4_SYM", group_size=32, all_layers=True),
    setting("int8 symmetric", "INT8_SYM"),
    setting("int8 asymmetric", "INT8_ASYM"),
    setting("NF4, groups of 32", "NF4", group_size=32, all_layers=True),
    setting("codebook CB4, groups of 32", "CB4", group_size=32, all_layers=True),
    setting("adaptive codebook of 16, channel", "ADAPTIVE_CODEBOOK", group_size=-1, all_layers=True),
]
# Inputs for adaptive codebooks: NNCF's own default.
IMAGES = 128


def decoded(model, core):
    """Float constants of an OpenVINO model, with what unpacks them computed."""
    import numpy as np
    import openvino as ov

    def constant(node):
        """Whether a node depends on constants alone."""
        kind = node.get_type_name()
        if kind in ("Parameter", "Result"):
            return False
        return kind == "Constant" or all(constant(i.get_source_output().get_node()) for i in node.inputs())

    sources = {}
    for node in model.get_ordered_ops():
        if constant(node):
            continue
        for port in node.inputs():
            source = port.get_source_output()
            if constant(source.get_node()) and source.get_element_type() in (ov.Type.f32, ov.Type.f16):
                sources[(source.get_node().get_friendly_name(), source.get_index())] = source
    unpack = core.compile_model(ov.Model(list(sources.values()), [], "weights"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    unpacked = unpack([])
    return {f"constant/{i}": np.array(unpacked[i], np.float32) for i in range(len(sources))}


def run(setting, job):
    import nncf
    import openvino as ov

    core = ov.Core()
    core.set_property("CPU", {"INFERENCE_NUM_THREADS": job.threads})
    model = ov.convert_model(str(job.network))
    mode, arguments = getattr(nncf.CompressWeightsMode, setting["mode"]), dict(setting["arguments"])
    if setting["mode"] == "ADAPTIVE_CODEBOOK":
        name = model.inputs[0].get_any_name()
        arguments["dataset"] = nncf.Dataset(list(job.calibration(IMAGES)), lambda x: {name: x[None]})
    elif "group_size" in arguments:
        from nncf.quantization.advanced_parameters import AdvancedCompressionParameters, GroupSizeFallbackMode

        arguments["advanced_parameters"] = AdvancedCompressionParameters(
            group_size_fallback_mode=GroupSizeFallbackMode.ADJUST, min_adjusted_group_size=1
        )
    with job.clock:
        model = nncf.compress_weights(model, mode=mode, **arguments)
    target = job.folder / "small.xml"
    ov.save_model(model, str(target))
    found = decoded(core.read_model(str(target)), core)
    return {"artefact": [target, target.with_suffix(".bin")], "weights": found, "graph": "folded"}
