"""coreai-opt: k-means palettization of PyTorch modules, plain and weighted by squared gradients (sensitive k-means).

Its values are written as a Core ML package by coremltools' mode `unique`, which finds the tables again, so bytes are those of a
package with the same tables. Training them (differentiable k-means) takes labels and epochs and is not run here.
"""

import subprocess

import numpy as np

TITLE, ENVIRONMENT, PACKAGES, USES_INPUTS = "coreai-opt", "coreai", ["coreai-opt", "torch", "coremltools"], True


def setting(name, bits, sensitive=False, group=0, scales=False):
    return {"name": name, "bits": bits, "sensitive": sensitive, "group": group, "scales": scales}


SETTINGS = [
    setting("sensitive k-means 6 bits, tensor", 6, sensitive=True),
    setting("sensitive k-means 4 bits, tensor", 4, sensitive=True),
    setting("sensitive k-means 8 bits, tensor", 8, sensitive=True),
    setting("sensitive k-means 4 bits, 1 channel", 4, sensitive=True, group=1),
    setting("k-means 6 bits, tensor", 6),
    setting("k-means 4 bits, tensor, scales", 4, scales=True),
]


def palettized(setting, job, model):
    """The PyTorch module with its weights on their tables."""
    import torch
    from coreai_opt.common import ExportBackend
    from coreai_opt.palettization import KMeansPalettizer, KMeansPalettizerConfig, ModuleKMeansPalettizerConfig
    from coreai_opt.palettization.spec import PalettizationSpec, PerGroupedChannelGranularity, PerTensorGranularity

    images = torch.from_numpy(np.array(job.calibration(128)))
    grain = PerGroupedChannelGranularity(axis=0, group_size=setting["group"]) if setting["group"] else PerTensorGranularity()
    spec = PalettizationSpec(n_bits=setting["bits"], granularity=grain, enable_per_channel_scale=setting["scales"])
    module = ModuleKMeansPalettizerConfig(op_state_spec={"weight": spec})
    with torch.no_grad():  # without labels, the float network's own answers are what its gradients are of
        answers = torch.cat([model(images[i : i + 16]) for i in range(0, len(images), 16)]).flatten(1).argmax(1)
    with job.clock:
        palettizer = KMeansPalettizer(model, KMeansPalettizerConfig(global_config=module))
        prepared = palettizer.prepare((images[:1],))
        if setting["sensitive"]:
            loss = torch.nn.functional.cross_entropy
            with palettizer.calibration_mode(loss_fn=loss) as calibration:
                for i in range(0, len(images), 8):
                    calibration.step(prepared(images[i : i + 8]).flatten(1), answers[i : i + 8])
        return palettizer.finalize(prepared, backend=ExportBackend.Torch)


def run(setting, job):
    import coremltools as ct
    import coremltools.optimize.coreml as cto
    import onnx
    import torch
    from weights import fill
    from onnx2torch import convert

    torch.set_num_threads(job.threads)
    model = convert(onnx.load(job.network)).eval()
    values = {f"module/{n}": v.numpy() for n, v in palettized(setting, job, model).state_dict().items() if v.is_floating_point()}
    filled, package = job.folder / "filled.onnx", job.folder / "dense.mlpackage"
    fill(job.network, values, filled)
    subprocess.run([job.slq, "convert", str(filled), str(package), "--dense", "--overwrite", "--quiet"], check=True)
    config = cto.OpPalettizerConfig(
        mode="unique",
        weight_threshold=512,
        **({"granularity": "per_grouped_channel", "group_size": setting["group"]} if setting["group"] else {}),
    )
    dense = ct.models.MLModel(str(package), skip_model_load=True)
    small = cto.palettize_weights(dense, cto.OptimizationConfig(global_config=config))
    target = job.folder / "small.mlpackage"
    small.save(str(target))
    return {"artefact": [target], "network": filled, "note": "bytes of a Core ML package with the same tables"}
