"""Running networks."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import _slq
from ._arrays import network_input, refuse
from ._slq import Model, Value


class Runtime:
    """Runs a network; palettized weights stay packed in memory.

        y = slq.Runtime("small.slq")(x)

    ``model``: a ``.slq`` or ``.onnx`` file, or a ``Model``. ``expand``: which packed weights become floats when it is loaded:
    ``auto`` (small ones), ``all`` (the speed of float kernels, at the memory of the float network) or ``none``.

    A runtime may be called from several threads; calls wait for one another.
    """

    def __init__(self, model: "Model | str | os.PathLike[str]", *, expand: str = "auto") -> None:
        if not isinstance(model, Model):
            model = os.fspath(model)
        self._runtime = _slq.Runtime(model, str(expand))
        self._inputs = {value.name: value for value in self._runtime.inputs}

    @property
    def inputs(self) -> list[Value]:
        """The inputs to give, in order."""
        return self._runtime.inputs

    @property
    def outputs(self) -> list[Value]:
        """The outputs, in order."""
        return self._runtime.outputs

    @property
    def packed(self) -> list[str]:
        """Names of the weights that stay packed."""
        return self._runtime.packed

    @property
    def bytes(self) -> int:
        """Bytes of weights and buffers in memory."""
        return self._runtime.bytes

    def __call__(self, *arrays: Any, **named: Any) -> "np.ndarray | dict[str, np.ndarray]":
        """Runs the network on arrays, in the order of its inputs or by their names.

        Floats of any width and layout are taken as float32; an input of floats refuses integers. Not-a-numbers pass through as
        arithmetic takes them. Returns the output, or a dict of outputs by name where there are several. The input is copied
        once, since another thread may change it meanwhile; the output is not copied.
        """
        if len(arrays) > len(self._inputs):
            refuse("inputs", f"{len(arrays)} arrays for {len(self._inputs)} inputs")
        given = dict(zip(self._inputs, arrays, strict=False))
        twice = [name for name in named if name in given]
        if twice:
            refuse("inputs", f"'{twice[0]}' is given twice")
        outputs = self.run({**given, **named})
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    def run(self, inputs: "Mapping[str, Any]") -> "dict[str, np.ndarray]":
        """Runs the network on arrays by the names of its inputs; a dict of its outputs."""
        names = ", ".join(self._inputs)
        for name in inputs:
            if name not in self._inputs:
                refuse("inputs", f"the network has no input '{name}'; its inputs are {names}")
        missing = [name for name in self._inputs if name not in inputs]
        if missing:
            refuse("inputs", f"'{missing[0]}' is missing; the network's inputs are {names}")
        return self._runtime.run({name: network_input(x, self._inputs[name]) for name, x in inputs.items()})

    def __repr__(self) -> str:
        return f"<slq.Runtime of {', '.join(self._inputs)}: {len(self.packed)} weights packed>"
