"""The networks that are compared: float weights, inputs to calibrate on and to test on, and labels, as plain files.

Every peer starts from the same ONNX file (or from the same network in its own format, written by `slq convert --dense`) and
sees the same arrays. Labels serve the figures alone.
"""

import gzip
import io
import json
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Network:
    """A network: its title, how its images are read, and in how many ways they are cut into calibration and test."""

    title: str
    model: tuple  # the files that `slq convert` reads, relative to the folder of models
    images: str
    reader: str
    ways: int = 1


NETWORKS = {
    "mobilenet-v2": Network(
        "MobileNetV2, ImageNet sample", ("mobilenet_v2.onnx",), "imagenet-sample-even.zip", "imagenet", 2
    ),
    "resnet20": Network("ResNet-20, CIFAR images", ("resnet20_cifar10.onnx",), "cifar10-jpeg.zip", "cifar"),
    "lenet-mnist": Network(
        "LeNet, MNIST", ("lenet_mnist_deploy.prototxt", "--weights", "lenet_mnist.caffemodel"), "mnist", "idx"
    ),
    "lenet-fashion-mnist": Network(
        "LeNet, Fashion-MNIST",
        ("lenet_mnist_deploy.prototxt", "--weights", "lenet_fashion_mnist.caffemodel"),
        "fashion-mnist",
        "idx",
    ),
}


def normalised(pixels):
    """Bytes [N, H, W, 3] as float32 [N, 3, H, W], scaled as ImageNet's networks want them."""
    scaled = (pixels.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def picture(content, side=None, crop=None):
    """Pixels of an encoded image; short side `side`, then cropped in the middle."""
    from PIL import Image

    image = Image.open(io.BytesIO(content)).convert("RGB")
    if side and min(image.size) != side:
        factor = side / min(image.size)
        image = image.resize([round(s * factor) for s in image.size], Image.BILINEAR)
    if crop:
        left, top = [(s - crop) // 2 for s in image.size]
        image = image.crop((left, top, left + crop, top + crop))
    return np.asarray(image)


def imagenet(path):
    """Two halves, every other image of the zip: each calibrates for the other."""
    archive = zipfile.ZipFile(path)
    names = sorted(n for n in archive.namelist() if n.lower().endswith((".jpg", ".jpeg")))
    halves = []
    for half in (names[::2], names[1::2]):
        images = normalised(np.stack([picture(archive.read(n), 256, 224) for n in half]))
        halves.append((images, np.array([int(n.split("/")[-2].split("_")[0]) for n in half])))
    return [(halves[way][0], *halves[1 - way]) for way in range(2)]


def cifar(path):
    """500 training images to calibrate on, spread evenly over the classes, and all test images."""
    archive = zipfile.ZipFile(path)
    names = sorted(n for n in archive.namelist() if n.endswith(".jpg"))
    classes = sorted({n.split("/")[-2] for n in names})
    parts = {part: [n for n in names if f"/{part}/" in n] for part in ("train", "test")}
    read = lambda chosen: normalised(np.stack([picture(archive.read(n)) for n in chosen]))
    labels = np.array([classes.index(n.split("/")[-2]) for n in parts["test"]])
    return [(read(parts["train"][::100]), read(parts["test"]), labels)]


def idx(path):
    """The first 500 training images to calibrate on, and all test images; pixels divided by 256."""
    folder = Path(path)
    if not folder.exists() and folder.name == "fashion-mnist":
        folder = Path("/usr/share/datasets/fashion-mnist")  # Debian's dataset-fashion-mnist

    def content(name, header):
        plain = folder / name
        raw = plain.read_bytes() if plain.exists() else gzip.open(f"{plain}.gz").read()
        return np.frombuffer(raw, np.uint8)[header:]

    images = lambda name: content(name, 16).reshape(-1, 1, 28, 28).astype(np.float32) / 256
    labels = content("t10k-labels-idx1-ubyte", 8).astype(np.int64)
    return [(images("train-images-idx3-ubyte")[:500], images("t10k-images-idx3-ubyte"), labels)]


def folded(model):
    """The network with every batch-norm behind a convolution in its weights and bias, as most converters do it."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    uses = [name for node in graph.node for name in node.input]
    producer = {name: node for node in graph.node for name in node.output}
    for norm in [n for n in graph.node if n.op_type == "BatchNormalization"]:
        conv = producer.get(norm.input[0])
        if conv is None or conv.op_type != "Conv" or uses.count(conv.output[0]) != 1:
            continue
        gamma, beta, mean, variance = [values[n].astype(np.float64) for n in norm.input[1:5]]
        epsilon = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
        factor = gamma / np.sqrt(variance + epsilon)
        weight = values[conv.input[1]]
        bias = values[conv.input[2]] if len(conv.input) > 2 else 0.0
        values[conv.input[1]] = (weight * factor.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.float32)
        name = f"{conv.input[1]}.folded_bias"
        values[name] = ((bias - mean) * factor + beta).astype(np.float32)
        inputs = [conv.input[0], conv.input[1], name]
        del conv.input[:]
        conv.input.extend(inputs)
        conv.output[0] = norm.output[0]
        graph.node.remove(norm)
    needed = {name for node in graph.node for name in node.input}
    del graph.initializer[:]
    graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in values.items() if n in needed)
    onnx.checker.check_model(model)
    return model


def convert(slq, source, target):
    done = subprocess.run(
        [str(slq), "convert", *map(str, source), str(target), "--dense", "--overwrite", "--quiet"],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"slq convert {target.name}: {done.stderr.strip()}")


def prepare(name, models, data, folder, slq):
    """Writes all files of a network into `folder`, once, and says in `network.json` what is there."""
    network = NETWORKS[name]
    done = folder / "network.json"
    if done.exists():
        return network
    folder.mkdir(parents=True, exist_ok=True)
    parts = [models / part if not part.startswith("--") else part for part in network.model]
    plain = folder / "float.onnx"
    if len(parts) == 1:
        plain.write_bytes(parts[0].read_bytes())
    else:
        convert(slq, parts, plain)
    model = onnx.load(plain)
    onnx.save(folded(model), folder / "folded.onnx")
    skipped = {}
    for ending in ("mlpackage", "tflite"):
        try:
            convert(slq, [plain], folder / f"float.{ending}")
        except RuntimeError as error:
            skipped[ending] = str(error)
    readers = {"imagenet": imagenet, "cifar": cifar, "idx": idx}
    for way, (calibration, test, labels) in enumerate(readers[network.reader](data / network.images)):
        np.save(folder / f"calibration-{way}.npy", calibration)
        np.save(folder / f"test-{way}.npy", test)
        np.save(folder / f"labels-{way}.npy", labels)
    for weight in model.graph.initializer:  # the graph alone, for tools whose files hold none
        weight.ClearField("raw_data")
        weight.ClearField("float_data")
    (folder / "graph.onnx").write_bytes(model.SerializeToString())
    done.write_text(json.dumps({"not written": skipped}))
    return network
