"""The extension module: what ``slq`` is made of."""

import os
from typing import Any, Literal

import numpy as np

__version__: str
DATA_SETTINGS: list[str]
METHOD_SETTINGS: list[str]

class Error(Exception):
    """Base of all exceptions of slq."""

class ModelError(Error):
    """A model that cannot be read, written or run."""

class DataError(Error):
    """Arrays, images or labels that cannot be used."""

class SettingError(Error):
    """A setting that is unknown, out of range or contradicts another."""

class ClusterError(Error):
    """Values, weights or codes that cannot be clustered, encoded or decoded."""

class FileError(Error):
    """A file or folder that cannot be read or written."""

class InternalError(Error):
    """A defect of slq: please report it."""

class Value:
    """An input or output of a network."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str:
        """As NumPy names it."""
    @property
    def shape(self) -> tuple[int | str | None, ...] | None:
        """Open extents are a name or ``None``; ``None`` where no shape is declared."""

class Size:
    """Sizes of a network in bytes."""

    @property
    def dense(self) -> int:
        """4 bytes for every parameter."""
    @property
    def stored(self) -> int:
        """Codes, codebooks and float parameters."""
    @property
    def entropy(self) -> int:
        """The same with the codes at their entropy."""
    @property
    def ratio(self) -> float:
        """``dense / stored``."""

class Layer:
    """A parameter tensor of a network and what it takes."""

    @property
    def name(self) -> str: ...
    @property
    def op(self) -> str:
        """The operator that reads it first."""
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def bits(self) -> int:
        """Bits of one stored value."""
    @property
    def distinct(self) -> int:
        """Number of distinct values."""
    @property
    def codebook_size(self) -> int | None:
        """Values in one codebook; ``None`` for floats."""
    @property
    def zeros(self) -> float:
        """Share of values that are 0."""
    @property
    def dense(self) -> int:
        """Bytes as 32-bit floats."""
    @property
    def stored(self) -> int:
        """Bytes of codes and codebooks, or of the floats."""
    @property
    def quantizable(self) -> bool:
        """Whether a compression would quantize it by default."""

class Model:
    """A network with its preprocessing, opened with ``Model.open``."""

    @staticmethod
    def open(
        name: str | os.PathLike[str],
        weights: str | os.PathLike[str] | None = None,
        graph: str | os.PathLike[str] | None = None,
        seed: int = 0,
    ) -> Model:
        """Opens ``x.onnx``, ``x.slq``, ``x.prototxt`` (with Caffe's ``weights``), ``x.safetensors`` (with its ``graph``) or
        ``zoo:NAME``, a built-in architecture with fresh weights drawn from ``seed``.

        Raises ``ModelError`` or ``FileError``.
        """
    @staticmethod
    def sample() -> Model:
        """The built-in sample: a LeNet trained on the images of ``load_data("mnist-10k")``."""
    def save(
        self,
        path: str | os.PathLike[str],
        dense: bool = False,
        legacy_blobs: bool = False,
        overwrite: bool = False,
        round_up_widths: bool = False,
        runtime: Literal["ort"] | None = None,
        collapse_batch_norm: bool = False,
        half_floats: bool = False,
    ) -> int:
        """Writes ``.onnx``, ``.slq``, ``.tflite``, ``.mlpackage``, ``.safetensors`` or ``.caffemodel``, as the ending says, with
        the preprocessing; the file appears whole or not at all. Returns its bytes.

        ``dense`` keeps weights as float32, for runtimes that do not open packed codes. ``round_up_widths`` stores codes of 5 bits
        in 6 and of 7 in 8 in ``.mlpackage``, which has no such widths. ``runtime="ort"`` makes an ``.onnx`` for onnxruntime, which
        then keeps the weights of dense layers packed in memory; the network has to be compressed for it, by
        ``compress(..., runtime="ort")`` or with ``codebook="uniform", granularity="dense:32"``. ``collapse_batch_norm`` keeps one
        scale and one shift of each batch-norm's channel as 16-bit floats, for files that are not trained on; ``half_floats``
        rounds all float parameters to 16-bit floats.

        Warns (``SlqWarning``) of what the format changed or left out. Raises ``SettingError`` for a ``runtime`` that is unknown,
        beside ``dense`` or for another format than ONNX; ``ModelError`` or ``FileError`` where nothing was written.
        """
    @property
    def inputs(self) -> list[Value]:
        """The inputs to give, in order."""
    @property
    def outputs(self) -> list[Value]: ...
    @property
    def layers(self) -> list[Layer]:
        """Each parameter tensor; computed at each call."""
    @property
    def size(self) -> Size: ...
    @property
    def weights(self) -> list[str]:
        """Names of all weights, biases and other constants."""
    def weight(self, name: str) -> np.ndarray[Any, Any]:
        """A copy of a weight's values; of shared weights, decoded. Floats of any width come as float32.

        Raises ``ModelError`` for an unknown name.
        """
    def palette(self, name: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None:
        """Codebook (float32, [groups, k]) and codes (uint8, of the weight's shape) of a shared weight; ``None`` for floats.

        ``slq.decode(codes, codebook)`` gives the weight.
        """

class Event:
    """What has just happened in a job."""

    @property
    def kind(
        self,
    ) -> Literal[
        "baseline", "final", "tested", "round", "shared", "round_end", "step", "measuring", "layer", "tried", "resumed", "other"
    ]: ...
    @property
    def done(self) -> int:
        """How much is done, in units of the kind."""
    @property
    def total(self) -> int:
        """How much there is to do; 0 where that is not known."""
    @property
    def name(self) -> str | None:
        """A layer or a trial."""
    @property
    def top1(self) -> float | None:
        """Share of test images classified correctly."""
    @property
    def loss(self) -> float | None: ...
    @property
    def lr(self) -> float | None:
        """Learning rate."""
    @property
    def fraction(self) -> float | None:
        """Share of the weights that is fixed."""

class Runtime:
    def __new__(cls, model: Model | str, expand: str) -> Runtime: ...
    @property
    def inputs(self) -> list[Value]: ...
    @property
    def outputs(self) -> list[Value]: ...
    @property
    def packed(self) -> list[str]: ...
    @property
    def bytes(self) -> int: ...
    def run(self, inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]: ...

def compress(request: dict[str, Any]) -> tuple[Model, str]: ...
def evaluate(model: Model, data: Any, settings: str) -> str: ...
def compare(a: Model, b: Model, inputs: Any, settings: str) -> str: ...
def load_data(name: str) -> list[np.ndarray[Any, Any]]: ...
def cluster(
    array: np.ndarray[Any, Any],
    k: int,
    weights: np.ndarray[Any, Any] | None,
    algorithm: str,
    fixed: list[float],
    seed: int,
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], float, float]: ...
def encode(array: np.ndarray[Any, Any], codebook: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]: ...
def decode(codes: np.ndarray[Any, Any], codebook: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]: ...
