"""Compressing, calibrating, measuring, comparing."""

import json
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from . import _slq
from ._data import labelled, unlabelled
from ._progress import Bar
from ._settings import as_json
from ._settings import settings as all_settings
from ._slq import DATA_SETTINGS, Event, Model, SettingError, Size
from ._warnings import say

Path = str | os.PathLike[str]


class Accuracy(NamedTuple):
    """Accuracy and loss on all test images."""

    top1: float
    """Share of images whose largest output is their label, from 0 to 1."""
    top5: float | None
    """Share of images whose label is among the five largest outputs; ``None`` below six classes."""
    loss: float
    """Mean cross-entropy, in nats."""
    images: int
    """Number of images."""


def _accuracy(found: dict[str, Any] | None) -> Accuracy | None:
    return None if found is None else Accuracy(found["top1"], found["top5"], found["loss"], found["images"])


class Result:
    """What a compression made: the network, and its figures."""

    def __init__(self, model: Model, report: dict[str, Any], notes: list[str]) -> None:
        self.model: Model = model
        """The compressed network."""
        self.report: dict[str, Any] = report
        """All figures, as ``slq compress --json`` prints them."""
        self.notes: list[str] = notes
        """What was guessed, and warnings."""

    @property
    def before(self) -> Accuracy | None:
        """Test accuracy of the network before; ``None`` without labels."""
        return _accuracy(self.report["baseline"])

    @property
    def after(self) -> Accuracy | None:
        """Test accuracy of the compressed network; ``None`` without labels."""
        return _accuracy(self.report["final"])

    @property
    def size(self) -> Size:
        """Sizes of the compressed network."""
        return self.model.size

    @property
    def ratio(self) -> float:
        """4 bytes for every parameter over the bytes of codes, codebooks and float parameters."""
        return float(self.report["size"]["ratio"])

    def save(self, path: Path, **options: Any) -> int:
        """Writes the network, see ``Model.save``; returns the file's bytes."""
        return self.model.save(path, **options)

    def __repr__(self) -> str:
        parts = [f"{self.ratio:.2f}x smaller"]
        if self.before is not None and self.after is not None:
            parts.append(f"top-1 {self.before.top1:.4f} -> {self.after.top1:.4f}")
        damage = self.report.get("damage")
        if damage is not None and damage["snr_db"] is not None:
            parts.append(f"signal to noise {damage['snr_db']:.1f} dB")
        return f"<slq.Result: {', '.join(parts)}>"


def _open(model: "Model | Path", what: str = "model") -> Model:
    if isinstance(model, Model):
        return model
    if isinstance(model, (str, os.PathLike)):
        return Model.open(model)
    raise SettingError(f"{what}: give an slq.Model or a path, not {type(model).__name__}; slq.from_torch converts modules")


def _run(
    model: "Model | Path",
    *,
    data: Any,
    inputs: Any,
    output: "Path | Iterable[Path] | None",
    teacher: "Model | Path | None",
    progress: "Callable[[Event], Any] | bool | None",
    given: dict[str, Any],
) -> Result:
    opened = _open(model)
    bar = Bar() if progress is True else None
    callback = bar if bar is not None else (None if progress is False else progress)
    if callback is not None and not callable(callback):
        raise SettingError("progress: give a function of one event, or True")
    if output is None:
        outputs = []
    elif isinstance(output, (str, os.PathLike)):
        outputs = [os.fspath(output)]
    else:
        outputs = [os.fspath(path) for path in output]
    request = {
        "model": opened,
        "data": labelled(data),
        "inputs": unlabelled(inputs, opened),
        "teacher": None if teacher is None else _open(teacher, "teacher"),
        "outputs": outputs,
        "settings": as_json(given, all_settings()),
        "progress": callback,
    }
    try:
        made, text = _slq.compress(request)
    finally:
        if bar is not None:
            bar.close()
    found = json.loads(text)
    report = found["report"]
    changed = [note for written in report["outputs"] for note in written.get("notes", [])]
    notes = found["notes"] + [warning["message"] for warning in report["warnings"]] + changed
    say(notes, 3)
    return Result(made, report, notes)


def compress(
    model: "Model | Path",
    data: Any = None,
    *,
    bits: int | None = None,
    method: str | None = None,
    inputs: Any = None,
    output: "Path | Iterable[Path] | None" = None,
    teacher: "Model | Path | None" = None,
    progress: "Callable[[Event], Any] | bool | None" = None,
    **settings: Any,
) -> Result:
    """Moves a network's weights onto few shared values, and re-trains what is still free.

    ``model``: a ``Model`` or what ``Model.open`` takes. ``data``: a path, ``(x, y)`` or ``(x_train, y_train, x_test, y_test)``.
    Images ``x`` are uint8 pixels of shape [N, H, W], [N, C, H, W] or [N, H, W, C], which get the preprocessing of the settings,
    of the model's file or the usual one that is found to fit; or floats, which are the network's inputs as they are. ``y`` are
    classes from 0. Without test images accuracy is measured on the training images, and a warning says so.

    ``bits``: bits of a code, for 2^bits values a layer [4]. ``method``: ``slq`` (the default with data), ``mlq``, ``inq``,
    ``deep-compression``, ``calibrate`` (the default with ``inputs``) or ``kmeans`` (the default with neither).
    ``inputs``: images or arrays without labels, see ``calibrate``. ``output``: files to write, ``.onnx``, ``.slq``,
    ``.safetensors``; each is read again and compared. ``runtime="ort"`` makes the ``.onnx`` for onnxruntime, which keeps the
    weights of dense layers packed in memory; it sets ``codebook`` and ``granularity`` where they are not given. ``teacher``: the model whose outputs ``distill`` trains towards.
    ``progress``: a function that is called with an ``slq.Event`` for each step, or ``True`` for a bar.

    ``settings``: those of ``slq compress --help`` with underscores, and the same defaults; ``slq.settings()`` lists them. Some:
    ``effort="quick"`` (a quarter of the training; ``"thorough"`` three times), ``reference=True`` (trains the float network for as
    long, to compare with), ``no_augmentation=True``, ``epochs_per_round=2``, ``lr=0.01``, ``granularity="channel"``, ``layers={"conv1*": "skip"}``, ``target_size="50KB"``, ``ternary=True``, ``seed=1``,
    ``run_dir="run"`` (keeps checkpoints; with ``resume=True`` it goes on from them).

    Raises ``SettingError``, ``DataError``, ``ModelError`` or ``FileError``; ``KeyboardInterrupt`` on Ctrl-C, and what
    ``progress`` raises.
    """
    given = {"bits": bits, "method": method, **settings}
    return _run(model, data=data, inputs=inputs, output=output, teacher=teacher, progress=progress, given=given)


def calibrate(
    model: "Model | Path",
    images: Any,
    bits: int | None = None,
    *,
    output: "Path | Iterable[Path] | None" = None,
    progress: "Callable[[Event], Any] | bool | None" = None,
    **settings: Any,
) -> Result:
    """Brings a network to few bits with images that have no labels, without training.

    ``images``: an array of uint8 pixels [N, H, W], [N, C, H, W] or [N, H, W, C]; an array of floats, the network's inputs as
    they are; a dict with an array for each input; a folder or zip of images; an ``.npy`` or ``.npz``; or ``"random:64"``, the
    last resort. A few hundred are enough. ``bits``: bits of a code [4]. The rest is as in ``compress``; settings of its own are
    ``calibration_images``, ``positions``, ``damping``, ``rate``, ``memory`` and ``without``.
    """
    if images is None:
        raise SettingError("images: give images, arrays or a path; compress() does without them")
    given = {"bits": bits, "method": settings.pop("method", "calibrate"), **settings}
    return _run(model, data=None, inputs=images, output=output, teacher=None, progress=progress, given=given)


def evaluate(model: "Model | Path", data: Any, **settings: Any) -> Accuracy:
    """Accuracy of a network on the test images of ``data``, or on all images of ``(x, y)``.

    ``data`` is as in ``compress``; ``settings`` say how pixels become inputs: ``scale``, ``mean``, ``std``, ``resize``, ``crop``,
    ``channel_order`` … and ``isa``.
    """
    if data is None:
        raise SettingError("data: give images with labels")
    text = _slq.evaluate(_open(model), labelled(data), as_json(settings, [*DATA_SETTINGS, "isa"]))
    found = json.loads(text)
    say(found["notes"], 2)
    accuracy = _accuracy(found["accuracy"])
    assert accuracy is not None
    return accuracy


class Comparison(NamedTuple):
    """How far the outputs and weights of two networks are apart."""

    agreement: float | None
    """Share of inputs whose largest output is the same; ``None`` where outputs are no classes."""
    kl: float | None
    """Mean Kullback-Leibler divergence, in nats."""
    max_abs: float
    """Largest difference of an output value."""
    relative: float
    """Root of the summed squared differences over that of the first network's outputs."""
    snr_db: float | None
    """The same as a ratio of signal to noise in dB; ``None`` where nothing differs."""
    inputs: int
    """Inputs compared on."""
    weights: dict[str, float]
    """Relative error of each weight that both networks have under one name."""


def compare(a: "Model | Path", b: "Model | Path", inputs: Any = None, *, seed: int = 0, **settings: Any) -> Comparison:
    """Compares the outputs of two networks on ``inputs`` (as in ``calibrate``; by default 64 random ones), and their weights."""
    first, second = _open(a, "a"), _open(b, "b")
    text = _slq.compare(
        first,
        second,
        unlabelled(inputs, first),
        as_json({"seed": seed, **settings}, [*DATA_SETTINGS, "isa", "seed"]),
    )
    found = json.loads(text)
    shared = set(second.weights)
    weights = {}
    for layer in first.layers:
        if layer.name in shared and len(layer.shape) > 1:
            x, y = first.weight(layer.name), second.weight(layer.name)
            if x.shape == y.shape and x.dtype.kind == "f" == y.dtype.kind:
                x, y = x.astype(np.float64), y.astype(np.float64)
                weights[layer.name] = float(np.linalg.norm(x - y) / max(np.linalg.norm(x), np.finfo(float).tiny))
    names = ["agreement", "kl", "max_abs", "relative", "snr_db"]
    return Comparison(**{name: found[name] for name in names}, inputs=found["images"], weights=weights)
