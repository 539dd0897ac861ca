"""From PyTorch and back. torch is imported when it is used."""

import contextlib
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ._slq import Model, ModelError

if TYPE_CHECKING:
    import torch


def _torch() -> Any:
    try:
        import torch
        import torch.onnx
    except ImportError as cause:
        raise ModelError(f"this needs PyTorch: pip install torch onnx onnxscript ({cause})") from cause
    return torch


@contextlib.contextmanager
def _evaluating(module: "torch.nn.Module") -> Iterator[None]:
    """The module as it is evaluated; each part trains again afterwards if it did."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's chatter; what goes wrong is raised."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def from_torch(
    module: "torch.nn.Module",
    example: "torch.Tensor | tuple[torch.Tensor, ...]",
    *,
    opset: int | None = None,
    dynamic_batch: bool = True,
) -> Model:
    """A PyTorch module as a ``Model``, by ``torch.onnx.export``; weights keep their names in the ``state_dict``.

    ``example``: an input, or a tuple of inputs, with the shapes and types that the module takes; the first axis is left open
    unless ``dynamic_batch`` is false. The module is exported as it is evaluated (``module.eval()``) and stays as it was.

    Raises ``ModelError`` where torch is missing or cannot export the module, with its reason.
    """
    torch = _torch()
    if not isinstance(module, torch.nn.Module):
        raise ModelError(f"module: give a torch.nn.Module, not {type(module).__name__}")
    inputs = tuple(example) if isinstance(example, (tuple, list)) else (example,)
    if not inputs or not all(isinstance(x, torch.Tensor) and x.dim() > 0 for x in inputs):
        raise ModelError("example: give a tensor, or a tuple of tensors, with a first axis for the batch")
    names = ["input"] if len(inputs) == 1 else [f"input_{i}" for i in range(len(inputs))]
    if dynamic_batch:
        # An axis of extent 1 would be taken for a constant.
        inputs = tuple(x if x.shape[0] > 1 else x.repeat(2, *[1] * (x.dim() - 1)) for x in inputs)
    with tempfile.TemporaryDirectory() as folder, _evaluating(module), torch.no_grad():
        path = os.path.join(folder, "module.onnx")
        options: dict[str, Any] = {"input_names": names, "opset_version": opset}
        try:
            with _quiet():
                _export(torch, module, inputs, path, names, dynamic_batch, options)
        except Exception as cause:
            text = str(cause).strip().split("\n")[0]
            raise ModelError(f"torch.onnx.export cannot export {type(module).__name__}: {text}") from cause
        return Model.open(path)


def _export(
    torch: Any,
    module: "torch.nn.Module",
    inputs: tuple[Any, ...],
    path: str,
    names: list[str],
    dynamic_batch: bool,
    options: dict[str, Any],
) -> None:
    from onnxscript.optimizer import fold_constants

    # Nodes are not merged: a batch-norm folded into a convolution would change weights and lose their names.
    shapes = tuple({0: torch.export.Dim.DYNAMIC} for _ in names) if dynamic_batch else None
    program = torch.onnx.export(
        module, inputs, dynamo=True, dynamic_shapes=shapes, optimize=False, verbose=False, **options
    )
    # What nodes make of constants alone, such as the zeros that stand for a bias that a convolution has not.
    fold_constants(program.model)
    program.save(path, external_data=False)


def into_torch(module: "torch.nn.Module", small: Model, *, strict: bool = True) -> "torch.nn.Module":
    """Puts the weights of ``small`` into ``module`` by name, in place, and returns it.

    ``small`` is what ``from_torch(module, …)`` became by ``compress`` or ``calibrate``: shared weights, and the biases and
    batch-norm statistics that were trained or corrected with them. Types and devices of the module stay; a module in 16 bits
    rounds the values.

    Raises ``ModelError``, and leaves the module as it was, where a name is missing on either side or a shape differs. With
    ``strict=False`` what is missing keeps its values; it is an error only if nothing fits.
    """
    torch = _torch()
    if not isinstance(module, torch.nn.Module):
        raise ModelError(f"module: give a torch.nn.Module, not {type(module).__name__}")
    if not isinstance(small, Model):
        raise ModelError(f"small: give an slq.Model, not {type(small).__name__}; a Result has it as .model")
    state = module.state_dict()
    wanted = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    there = set(small.weights)
    fitting = _fitting(torch, wanted, small, there)
    if strict:
        # Tied weights have several names and one home.
        homes = {wanted[name].data_ptr() for name in fitting}
        missing = [n for n, t in wanted.items() if n not in fitting and t.data_ptr() not in homes]
        if missing:
            raise ModelError(
                f"the network has no weight '{missing[0]}' of the module ({len(missing)} of {len(wanted)} are missing): "
                "export it with slq.from_torch, or give strict=False"
            )
        lost = [layer.name for layer in small.layers if layer.quantizable and layer.name not in fitting]
        if lost:
            raise ModelError(f"the module has no weight '{lost[0]}' of the network: give strict=False to leave it out")
    if not fitting:
        raise ModelError("module and network have no weight in common")
    with torch.no_grad():
        for name, values in fitting.items():
            wanted[name].copy_(values)
    return module


def _fitting(torch: Any, wanted: dict[str, Any], small: Model, there: set[str]) -> dict[str, Any]:
    """The values of each weight that both have."""
    fitting = {}
    for name, tensor in wanted.items():
        if name not in there:
            continue
        values = small.weight(name)
        if values.shape != tuple(tensor.shape):
            raise ModelError(
                f"weight '{name}' has the shape {tuple(tensor.shape)} in the module and {values.shape} in the network"
            )
        fitting[name] = torch.from_numpy(np.ascontiguousarray(values)).reshape(tensor.shape)
    return fitting
