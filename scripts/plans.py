"""The runs that `measure.py` measures: for each plan a network, data, a float reference and settings of `slq`.

Keys of a plan: "model" (arguments that name the network) or "prepare" (arguments of the `slq train` that makes it;
"prepare-validation" where that differs on a validation split); "data"; "eval" (preprocessing that the files do not
carry); "reference" (arguments of the float network's further training, or None); "runs" (arguments of `slq compress`, or of
`slq decompose` where that word comes first; "after:NAME" lets a run start from what another one made; "{prepared}" is
the network that "prepare" makes); "seeds".
"""
from pathlib import Path

FASHION = Path("/usr/share/datasets/fashion-mnist")
SHORT = ["--scale", "0.00390625"]
COSINE = ["--lr-policy", "cosine", "--batch", "64"]
LENET = [*COSINE, *SHORT]

CIFAR = ["--batch", "128", "--weight-decay", "0.0001"]
AUGMENT = ["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225", "--pad-crop", "4", "--mirror"]


IMAGENET = ["--crop", "224", "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]
# The smallest layers first: the largest stay free longest, so that they can compensate for the others.
MLQ = ["--method", "mlq", "--rank-by", "size"]


def published(bits):
    """The publication's settings, with K = 2^(bits-1) + 1 values; flags beside them win. They do not move with the defaults."""
    return ["--published", "--bits", str(bits)]


def one_shot(k):
    """K-means without re-training."""
    return ["--method", "kmeans", "--codebook-size", str(k)]


def distilled(half):
    """SLQ towards the float network's outputs, on every second image."""
    subsets = ["--train-subset", f"{half}::2", "--test-subset", f"{1 - half}::2"]
    training = ["--epochs-per-round", "4", "--lr", "0.00005", "--weight-decay", "0", "--batch", "16", "--freeze-batch-norm"]
    return ["--distill", "--init", "exact", *training, *IMAGENET, *subsets]


def lenet(bits, lr, iterations, *more):
    return [*published(bits), "--lr", str(lr), "--iterations-per-round", str(iterations), *LENET, *more]


def ternary(iterations, *more):
    training = ["--lr", "0.01", "--iterations-per-round", str(iterations), *COSINE, "--distill", "4"]
    return [*published(2), *training, *more]


# Towards the outputs of the network that a run starts from, at temperature 4: fewer epochs go further than with labels.
DISTILLED = ["--distill", "4", *CIFAR]
TUNE = ["--tune-epochs", "2", "--tune-lr", "0.002"]


def decompose(scheme, ratio, *more):
    return ["decompose", "--scheme", scheme, "--macs", str(ratio), *more]


def factors(scheme, ratio, lr, epochs):
    """Split first, then epochs on the factors."""
    return decompose(scheme, ratio, "--fine-tune-epochs", str(epochs), "--lr", lr, *DISTILLED)


def trp(scheme, ratio, lr, low_rank, split):
    """Epochs at low rank, then epochs on the factors."""
    epochs = ["--epochs", str(low_rank), "--fine-tune-epochs", str(split), "--fine-tune-lr", lr]
    return decompose(scheme, ratio, "--trp", "--trp-period", "10", *epochs, "--lr", lr, *DISTILLED)


def resnet(bits, *more):
    """SLQ on ResNet-20: six epochs in all rounds, then two in which the shared values themselves are trained."""
    return [*published(bits), "--epochs-per-round", "1.2", *TUNE, "--lr", "0.02", *DISTILLED, *more]


def plans(shared):
    net = [f"{shared}/models/lenet_mnist_deploy.prototxt", "--weights"]
    fashion = [*net, f"{shared}/models/lenet_fashion_mnist.caffemodel"]
    mnist = [*net, f"{shared}/models/lenet_mnist.caffemodel"]
    # The shipped networks have seen every training image: choices are made on one that has not.
    scratch = ["zoo:lenet", "--lr", "0.01", "--lr-policy", "inv:0.0001:0.75", "--iterations", "10000", "--batch", "64", *SHORT]
    cifar = {
        "prepare": [f"{shared}/models/resnet20_cifar10.onnx", "--epochs", "16", "--lr", "0.05", *CIFAR, *AUGMENT],
        "data": f"{shared}/data/cifar10-jpeg.zip",
        "eval": [],
        "reference": ["--epochs", "8", "--lr", "0.02", *CIFAR],
        "seeds": 1,
    }
    float_fashion = ["--lr", "0.001", "--iterations", "5000", *LENET]
    return {
        "lenet-fashion": {
            "model": fashion,
            "data": str(FASHION),
            "eval": SHORT,
            "prepare-validation": scratch,
            "reference": float_fashion,
            "runs": {
                "one-shot k-means K=17": [*one_shot(17), *SHORT],
                "K=17 magnitude": lenet(5, 0.001, 1000, "--partition", "magnitude"),
                "K=17 loss": lenet(5, 0.001, 1000, "--partition", "loss"),
                "K=17 taylor": lenet(5, 0.001, 1000, "--partition", "taylor"),
                "K=17 reversed": lenet(5, 0.001, 1000, "--partition", "reversed"),
                "one-shot k-means K=9": [*one_shot(9), *SHORT],
                "K=9 magnitude": lenet(4, 0.003, 1000, "--partition", "magnitude"),
                "one-shot k-means K=5": [*one_shot(5), *SHORT],
                "K=5 magnitude": lenet(3, 0.005, 1500, "--partition", "magnitude"),
            },
        },
        # First to where more float training adds nothing, so that method and reference start from the same place.
        "lenet-mnist": {
            "prepare": [*mnist, "--lr", "0.005", "--iterations", "5000", *LENET],
            "prepare-validation": scratch,
            "data": f"{shared}/data/mnist",
            "eval": [],
            "reference": ["--lr", "0.005", "--iterations", "5000", *COSINE],
            "runs": {
                "one-shot k-means K=17": one_shot(17),
                "K=17 magnitude": [
                    *published(5), "--lr", "0.005", "--iterations-per-round", "1000", "--partition", "magnitude", "--distill", "4", *COSINE,
                ],
            },
        },
        # Ternary: from a network that more float training improves no further; every row re-trains for 16 000 steps.
        "mlq-lenet": {
            "prepare": [*fashion, "--lr", "0.01", "--iterations", "16000", *LENET],
            "prepare-validation": scratch,
            "data": str(FASHION),
            "eval": [],
            "reference": ["--lr", "0.01", "--iterations", "16000", *COSINE],
            "runs": {
                "one-shot k-means K=3": one_shot(3),
                "SLQ K=3": ternary(8000),
                "INQ K=3": ternary(1600, "--method", "inq"),
                "MLQ K=3": ternary(2000, *MLQ),
            },
        },
        # Float networks trained from scratch, with shifts by up to two pixels; "prepare" gives recipe and error.
        **{
            f"deep-compression-{net}": {
                "prepare": [f"zoo:{net}", "--epochs", "40", "--lr", "0.02", "--pad-crop", "2", *LENET],
                "data": f"{shared}/data/mnist",
                "eval": [],
                "reference": None,
                "runs": {
                    f"Deep Compression {sparsity} K={1 << bits}": [
                        "--method", "deep-compression", "--bits", str(bits), "--sparsity", str(sparsity), "--prune-steps", "19",
                        "--epochs-per-round", str(epochs), "--lr", "0.01", "--tune-epochs", "6", "--tune-lr", "0.002", "--batch", "64", *more,
                    ]
                },
            }
            for net, sparsity, bits, epochs, more in (("lenet", 0.985, 3, 2, ["--distill", "4"]), ("lenet-300-100", 0.95, 3, 4, []))
        },
        # The pretrained network comes from the original CIFAR-10: it is fine-tuned on these images first; the
        # preprocessing and augmentation that its file then holds need not be repeated. Re-training takes ten epochs, the
        # reference as many.
        "resnet20": {
            **cifar,
            "runs": {
                "one-shot k-means K=17": one_shot(17),
                "K=17 magnitude": resnet(5),
                "one-shot k-means K=9": one_shot(9),
                "K=9 magnitude": resnet(4, "--schedule", "3,5,7,8,9"),
            },
        },
        # Low rank at the published ratios of MACs (arXiv 2004.14566, CIFAR-10), and SLQ with 17 values on top of what
        # stores a little less than an eighteenth then. Epochs: at low rank, on the factors behind it, on those of a plain split.
        "trp-resnet20": {
            **cifar,
            "reference": ["--epochs", "14", "--lr", "0.02", *CIFAR],
            "runs": {
                **{
                    f"{scheme} {name}": settings
                    for scheme, ratio, lr, (low_rank, split, plain) in (
                        ("channel", 2.17, "0.02", (2, 12, 2)),
                        ("spatial", 2.84, "0.02", (2, 12, 14)),
                        ("decouple", 2.04, "0.05", (4, 4, 1)),
                    )
                    for name, settings in (
                        ("plain", decompose(scheme, ratio, "--batch", "128")),
                        ("fine-tuned", factors(scheme, ratio, lr, plain)),
                        ("TRP", trp(scheme, ratio, lr, low_rank, split)),
                    )
                },
                "spatial 3.6x TRP": trp("spatial", 3.6, "0.02", 2, 14),
                "spatial 3.6x TRP then K=17": [
                    "after:spatial 3.6x TRP", *published(5), "--epochs-per-round", "1.5", *TUNE, "--lr", "0.02", *DISTILLED,
                    "--teacher", "{prepared}",
                ],
            },
        },
        "resnet20-low-bits": {
            **cifar,
            "runs": {
                "one-shot k-means K=5": one_shot(5),
                "SLQ K=5": [*published(3), "--schedule", "3,4,5", "--epochs-per-round", "2", *TUNE, "--lr", "0.05", *DISTILLED],
                "one-shot k-means K=3": one_shot(3),
                "SLQ K=3": [*published(2), "--epochs-per-round", "4", *TUNE, "--lr", "0.05", *DISTILLED],
                "MLQ K=3": [
                    *published(2), *MLQ, "--layers-per-step", "4", "--epochs-per-round", "1.3", *TUNE, "--lr", "0.05", *DISTILLED,
                ],
                "MLQ K=3 per channel": [
                    *published(2), *MLQ, "--granularity", "channel", "--layers-per-step", "4", "--epochs-per-round", "2", *TUNE, "--lr", "0.05",
                    *DISTILLED,
                ],
            },
        },
        "mobilenet": {
            "model": [f"{shared}/models/mobilenet_v2.onnx"],
            "data": f"{shared}/data/imagenet-sample-even.zip",
            "eval": IMAGENET,
            "reference": None,
            "runs": {
                f"k-means K={1 << bits} per {granularity}{', uncorrected' if more else ''}": [
                    "--method", "kmeans", "--bits", str(bits), "--granularity", granularity, *more, "--batch", "16", *IMAGENET,
                ]
                for granularity in ("tensor", "channel")
                for bits in (8, 6, 5, 4)
                for more in ([], ["--no-correction"])
            },
        },
        # Trained without labels on one half of the images, measured on the other.
        **{
            f"mobilenet-distill-{half}": {
                "model": [f"{shared}/models/mobilenet_v2.onnx"],
                "data": f"{shared}/data/imagenet-sample-even.zip",
                "eval": [*IMAGENET, "--test-subset", f"{1 - half}::2"],
                "reference": None,
                "runs": {
                    "SLQ K=32 per tensor": [*distilled(half), "--codebook-size", "32"],
                    "SLQ K=16 per channel": [*distilled(half), "--codebook-size", "16", "--granularity", "channel"],
                },
            }
            for half in (0, 1)
        },
    }
