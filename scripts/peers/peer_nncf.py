"""NNCF: weight compression of OpenVINO models, without data."""

TITLE, ENVIRONMENT, PACKAGES, USES_INPUTS = "NNCF", "openvino", ["nncf", "openvino"], False


def setting(name, mode, **arguments):
    return {"name": name, "mode": mode, "arguments": arguments}


SETTINGS = [
    setting("int4 symmetric, groups of 32", "INT4_SYM", group_size=32, all_layers=True),
    setting("int8 symmetric", "INT8_SYM"),
    setting("int8 asymmetric", "INT8_ASYM"),
    setting("NF4, groups of 32", "NF4", group_size=32, all_layers=True),
    setting("codebook", "CODEBOOK", group_size=32, all_layers=True),
    setting("adaptive codebook", "ADAPTIVE_CODEBOOK", group_size=32, all_layers=True),
]


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
    mode = getattr(nncf.CompressWeightsMode, setting["mode"])
    with job.clock:
        model = nncf.compress_weights(model, mode=mode, **setting["arguments"])
    target = job.folder / "small.xml"
    ov.save_model(model, str(target))
    found = decoded(core.read_model(str(target)), core)
    return {"artefact": [target, target.with_suffix(".bin")], "weights": found, "graph": "folded"}
