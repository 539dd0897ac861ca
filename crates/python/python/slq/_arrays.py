"""Arrays as the extension takes them: contiguous, in the machine's byte order, of a type that it knows.

What would lose its meaning is refused with a sentence: complex numbers, objects, arrays on another device.
"""

from typing import Any, NoReturn

import numpy as np

from ._slq import ClusterError, DataError, Error


def refuse(what: str, why: str, error: type[Error] = DataError) -> NoReturn:
    raise error(f"{what}: {why}")


def as_array(given: Any, what: str, error: type[Error] = DataError) -> np.ndarray:
    """Anything that is an array; tensors on another device are not."""
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        refuse(what, "some of its elements are masked: fill them first", error)
    device = getattr(given, "device", None)
    kind = getattr(device, "type", device)
    if isinstance(kind, str) and kind != "cpu":
        refuse(what, f"the tensor is on the device '{device}': move it with .cpu()", error)
    if getattr(given, "requires_grad", False) and hasattr(given, "detach"):
        given = given.detach()
    try:
        array = np.asarray(given)
    except Exception as cause:
        raise error(f"{what}: it is no array: {cause}") from cause
    if array.dtype == object:
        refuse(what, "it is no array of numbers (rows of different lengths, or objects)", error)
    return array


def _native(array: np.ndarray, dtype: Any) -> np.ndarray:
    # Not ascontiguousarray, which gives a scalar an axis.
    return np.require(array, dtype=dtype, requirements=["C", "A"])


def floats(given: Any, what: str, error: type[Error] = DataError, integers: bool = False) -> np.ndarray:
    """As float32. Finite values that float32 does not hold are refused."""
    array = as_array(given, what, error)
    kinds = "fiu" if integers else "f"
    if array.dtype.kind not in kinds:
        refuse(what, f"it holds {array.dtype}, where floats are expected", error)
    if array.dtype.kind == "f" and array.dtype.itemsize <= 4:
        return _native(array, np.float32)
    with np.errstate(over="ignore"):
        narrow = _native(array, np.float32)
    if np.isinf(narrow).any() and (np.isinf(narrow) & np.isfinite(array)).any():
        refuse(what, "it holds values beyond the range of float32", error)
    return narrow


def images(given: Any, what: str) -> np.ndarray:
    """As uint8 (pixels) or float32 (inputs as they are)."""
    array = as_array(given, what)
    if array.dtype == np.uint8:
        return _native(array, np.uint8)
    if array.dtype.kind != "f":
        refuse(what, f"images are uint8 (pixels) or floats (inputs as they are), not {array.dtype}")
    return floats(array, what)


def labels(given: Any, what: str) -> np.ndarray:
    """As int64."""
    array = as_array(given, what)
    if array.dtype.kind not in "iu":
        refuse(what, f"labels are integers, not {array.dtype}")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        refuse(what, f"labels have one axis, not the shape {array.shape}; a class is a number, not a row")
    if array.dtype.kind == "u" and array.dtype.itemsize == 8 and array.size and array.max() > np.iinfo(np.int64).max:
        refuse(what, "labels are beyond the range of int64")
    return _native(array, np.int64)


def network_input(given: Any, value: Any) -> np.ndarray:
    """As an input of a network takes it. Integers are not made floats: pixels would pass for inputs."""
    what = f"input '{value.name}'"
    array = as_array(given, what)
    if value.dtype in ("float32", "float16", "bfloat16", "float64"):
        if array.dtype.kind in "iub":
            refuse(
                what,
                f"it takes floats, not {array.dtype}: bring pixels to what the network was trained on, or convert "
                "with .astype('float32')",
            )
        return floats(array, what)
    if value.dtype == "bool":
        if array.dtype.kind != "b":
            refuse(what, f"it takes bool, not {array.dtype}")
        return _native(array, np.bool_)
    if array.dtype.kind not in "iu":
        refuse(what, f"it takes {value.dtype}, not {array.dtype}")
    if array.dtype.kind == "u" and array.dtype.itemsize == 8:
        if array.size and array.max() > np.iinfo(np.int64).max:
            refuse(what, "it holds values beyond the range of int64")
    return _native(array, np.int64)


def codes(given: Any) -> np.ndarray:
    """As uint16."""
    array = as_array(given, "codes", ClusterError)
    if array.dtype.kind not in "iu":
        refuse("codes", f"they are integers, not {array.dtype}", ClusterError)
    if array.size and (array.min() < 0 or array.max() > 65535):
        refuse("codes", "they count from 0 to 65535", ClusterError)
    return _native(array, np.uint16)
