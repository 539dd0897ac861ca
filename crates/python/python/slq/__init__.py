"""Makes trained neural networks small.

    import slq

    done = slq.compress("net.onnx", data=(x_train, y_train, x_test, y_test), bits=4)
    print(done)                       # accuracy before and after, bytes, ratio
    done.save("small.onnx")           # opens in any ONNX runtime
    y = slq.Runtime(done.model)(x)    # or run it here, with its weights packed

Without labels: ``slq.calibrate("net.onnx", images, bits=4)``. From PyTorch: ``slq.from_torch(module, example)``, and
``slq.into_torch(module, done.model)`` for the way back. Every function raises ``slq.Error`` or one of its subclasses.

Arrays are NumPy's. Where a function wants floats it takes float16, float32 and float64 of any layout and rounds to float32.
Work runs without the interpreter's lock, so that other threads go on; Ctrl-C ends it with ``KeyboardInterrupt``.
"""

from ._codes import Clustering, cluster, decode, encode
from ._compress import Accuracy, Comparison, Result, calibrate, compare, compress, evaluate
from ._data import load_data
from ._progress import Bar
from ._runtime import Runtime
from ._settings import settings
from ._slq import (
    ClusterError,
    DataError,
    Error,
    Event,
    FileError,
    InternalError,
    Layer,
    Model,
    ModelError,
    SettingError,
    Size,
    Value,
    __version__,
)
from ._torch import from_torch, into_torch
from ._warnings import SlqWarning

__all__ = [
    "Accuracy",
    "Bar",
    "ClusterError",
    "Clustering",
    "Comparison",
    "DataError",
    "Error",
    "Event",
    "FileError",
    "InternalError",
    "Layer",
    "Model",
    "ModelError",
    "Result",
    "Runtime",
    "SettingError",
    "Size",
    "SlqWarning",
    "Value",
    "__version__",
    "calibrate",
    "cluster",
    "compare",
    "compress",
    "decode",
    "encode",
    "evaluate",
    "from_torch",
    "into_torch",
    "load_data",
    "settings",
]
