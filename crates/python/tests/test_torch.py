"""slq.from_torch and slq.into_torch. Skipped where PyTorch or its exporter is missing."""

import copy

import numpy as np
import pytest

import slq

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class LeNet(torch.nn.Module):
    """A small network with a batch-norm, a convolution without bias and a linear layer."""

    def __init__(self):
        super().__init__()
        self.features = torch.nn.Sequential(
            torch.nn.Conv2d(1, 8, 5, bias=False),
            torch.nn.BatchNorm2d(8),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Conv2d(8, 16, 5),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
        )
        self.classifier = torch.nn.Linear(256, 10)

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    module = LeNet()
    module.train()
    with torch.no_grad():
        module(torch.rand(64, 1, 28, 28))
    return module


@pytest.fixture(scope="module")
def exported(module):
    return slq.from_torch(module, torch.zeros(1, 1, 28, 28))


def outputs(module, x):
    module.eval()
    with torch.no_grad():
        return module(torch.from_numpy(x)).numpy()


def test_a_module_becomes_a_model_that_computes_the_same(module, exported, pixels):
    assert module.training, "the module's mode stays"
    names = set(module.state_dict()) - {"features.1.num_batches_tracked"}
    assert names <= set(exported.weights)
    assert exported.inputs[0].name == "input" and not isinstance(exported.inputs[0].shape[0], int)
    assert np.allclose(slq.Runtime(exported)(pixels), outputs(copy.deepcopy(module), pixels), atol=1e-4)


@pytest.mark.parametrize("way", ["kmeans", "calibrate", "slq"])
def test_shared_weights_go_back_into_the_module(module, exported, pixels, mnist, way):
    if way == "kmeans":
        small = slq.compress(exported, bits=3).model
    elif way == "calibrate":
        small = slq.calibrate(exported, pixels, bits=3).model
    else:
        x_train, y_train, x_test, y_test = mnist
        data = ((x_train[:, None] / 255).astype("f4"), y_train, (x_test[:, None] / 255).astype("f4"), y_test)
        small = slq.compress(exported, data, bits=3, iterations_per_round=3).model
    target = copy.deepcopy(module)
    assert slq.into_torch(target, small) is target
    for name in ["features.0.weight", "features.4.weight", "classifier.weight"]:
        assert len(target.state_dict()[name].unique()) <= 8
    assert np.allclose(outputs(target, pixels), slq.Runtime(small)(pixels), atol=1e-3)


def test_a_tensor_is_an_array(module, exported, pixels):
    x = torch.from_numpy(pixels)
    assert np.array_equal(slq.Runtime(exported)(x), slq.Runtime(exported)(pixels))
    assert np.array_equal(slq.Runtime(exported)(x.clone().requires_grad_()), slq.Runtime(exported)(pixels))
    assert slq.cluster(torch.tensor([1.0, 2.0, 9.0]), 2).codes.tolist() == [0, 0, 1]
    with pytest.raises(slq.DataError, match="meta"):
        slq.Runtime(exported)(x.to("meta"))


def test_what_does_not_fit_is_refused_and_changes_nothing(module, exported, lenet):
    other = torch.nn.Sequential(torch.nn.Linear(4, 4))
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(slq.ModelError, match="0.weight"):
        slq.into_torch(other, exported)
    assert all(torch.equal(before[name], tensor) for name, tensor in other.state_dict().items())
    with pytest.raises(slq.ModelError, match="common"):
        slq.into_torch(other, exported, strict=False)
    wrong = LeNet()
    wrong.classifier = torch.nn.Linear(256, 11)
    with pytest.raises(slq.ModelError, match="shape"):
        slq.into_torch(wrong, exported)
    with pytest.raises(slq.ModelError, match="Result"):
        slq.into_torch(module, slq.compress(lenet, bits=8))
    for bad in [None, 3, ()]:
        with pytest.raises(slq.ModelError, match="example"):
            slq.from_torch(module, bad)
    with pytest.raises(slq.ModelError, match="module"):
        slq.from_torch("net", torch.zeros(1))
    with pytest.raises(slq.ModelError, match="export"):
        slq.from_torch(module, torch.zeros(1, 3, 28, 28))
