"""What the tests share: the installed package, a small network, images. They run against the wheel (scripts/python-tests)."""

import warnings

import numpy as np
import pytest

import slq


@pytest.fixture(scope="session")
def lenet() -> slq.Model:
    """A LeNet with fresh weights: input [N, 1, 28, 28], output [N, 10]."""
    return slq.Model.open("zoo:lenet")


@pytest.fixture(scope="session")
def mnist():
    """The first images of the built-in sample."""
    x_train, y_train, x_test, y_test = slq.load_data("mnist-10k")
    return x_train[:256], y_train[:256], x_test[:100], y_test[:100]


@pytest.fixture(scope="session")
def pixels(mnist) -> np.ndarray:
    """32 images of pixels as floats from 0 to 1, as the network takes them."""
    return (mnist[0][:32, None] / 255).astype(np.float32)


@pytest.fixture(autouse=True)
def quiet():
    """Notes of jobs are no failures, but a deprecated use of Python or NumPy is."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        warnings.simplefilter("ignore", slq.SlqWarning)
        yield
