"""Computes an ML program that coremltools has rebuilt, in numpy: the operators that slq writes, by their documented meaning.

There is no Core ML outside Apple's systems, so this is how values are checked elsewhere (docs/coreml.md).
"""
import math

import numpy as np


def erf(x):
    return np.vectorize(math.erf, otypes=[np.float64])(x.astype(np.float64)).astype(np.float32)


def windows(x, kernel, strides, dilations):
    """[N, C, H, W] as [N, C, OH, OW, KH, KW], without copying."""
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    out = [(x.shape[2 + i] - reach[i]) // strides[i] + 1 for i in range(2)]
    s = x.strides
    return np.lib.stride_tricks.as_strided(
        x,
        (*x.shape[:2], *out, *kernel),
        (*s[:2], s[2] * strides[0], s[3] * strides[1], s[2] * dilations[0], s[3] * dilations[1]),
        writeable=False,
    )


def padded(x, pad, value):
    top, bottom, left, right = [int(p) for p in pad]
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def conv(x, weight, strides, pad_type, pad, dilations, groups, bias=None):
    assert pad_type == "custom"
    x, groups = padded(x, pad, 0.0), int(groups)
    n, m = x.shape[0], weight.shape[0]
    out = []
    for g in range(groups):
        part = x[:, g * x.shape[1] // groups : (g + 1) * x.shape[1] // groups]
        kernel = weight[g * m // groups : (g + 1) * m // groups]
        w = windows(np.ascontiguousarray(part), weight.shape[2:], strides, dilations)
        oh, ow = w.shape[2:4]
        rows = w.transpose(0, 2, 3, 1, 4, 5).reshape(n * oh * ow, -1)
        out.append((rows @ kernel.reshape(len(kernel), -1).T).reshape(n, oh, ow, -1).transpose(0, 3, 1, 2))
    y = np.concatenate(out, axis=1)
    return y if bias is None else y + bias.reshape(1, -1, 1, 1)


def conv_transpose(x, weight, strides, pad_type, pad, dilations, groups, bias=None):
    assert pad_type == "custom"
    groups, (kh, kw), (top, bottom, left, right) = int(groups), weight.shape[2:], [int(p) for p in pad]
    n, c, h, w = x.shape
    m = weight.shape[1] * groups
    y = np.zeros((n, m, (h - 1) * strides[0] + (kh - 1) * dilations[0] + 1, (w - 1) * strides[1] + (kw - 1) * dilations[1] + 1))
    for g in range(groups):
        channels = range(g * c // groups, (g + 1) * c // groups)
        to = slice(g * m // groups, (g + 1) * m // groups)
        for i in range(kh):
            for j in range(kw):
                part = np.einsum("nchw,cm->nmhw", x[:, channels], weight[channels, :, i, j])
                di, dj = i * dilations[0], j * dilations[1]
                y[:, to, di : di + h * strides[0] : strides[0], dj : dj + w * strides[1] : strides[1]] += part
    y = y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right].astype(np.float32)
    return y if bias is None else y + bias.reshape(1, -1, 1, 1)


def max_pool(x, kernel_sizes, strides, pad_type, pad, ceil_mode):
    assert pad_type == "custom" and not ceil_mode
    return windows(padded(x, pad, -np.inf), kernel_sizes, strides, [1, 1]).max(axis=(4, 5))


def avg_pool(x, kernel_sizes, strides, pad_type, pad, ceil_mode, exclude_padding_from_average):
    assert pad_type == "custom" and not ceil_mode
    sums = windows(padded(x, pad, 0.0), kernel_sizes, strides, [1, 1]).sum(axis=(4, 5))
    if not exclude_padding_from_average:
        return sums / np.float32(np.prod(kernel_sizes))
    ones = padded(np.ones_like(x), pad, 0.0)
    return sums / windows(ones, kernel_sizes, strides, [1, 1]).sum(axis=(4, 5))


def channels(v, x):
    return v.reshape(1, -1, *[1] * (x.ndim - 2))


def batch_norm(x, mean, variance, gamma, beta, epsilon):
    factor = gamma / np.sqrt(variance + epsilon)
    return x * channels(factor, x) + channels(beta - mean * factor, x)


def local_response_norm(x, size, alpha, beta, k):
    half, squares = int(size) // 2, x.astype(np.float64) ** 2
    sums = sum(
        np.pad(squares, [(0, 0), (half, half)] + [(0, 0)] * (x.ndim - 2))[:, i : i + x.shape[1]] for i in range(int(size))
    )
    return (x / (k + alpha / size * sums) ** beta).astype(np.float32)


def layer_norm(x, axes, epsilon, gamma=None, beta=None):
    axes = tuple(int(a) for a in axes)
    d = x - x.mean(axis=axes, keepdims=True)
    y = d / np.sqrt((d * d).mean(axis=axes, keepdims=True) + epsilon)
    y = y if gamma is None else y * gamma
    return y if beta is None else y + beta


def instance_norm(x, epsilon, gamma=None, beta=None):
    y = layer_norm(x, range(2, x.ndim), epsilon)
    y = y if gamma is None else y * channels(gamma, x)
    return y if beta is None else y + channels(beta, x)


def softmax(x, axis):
    e = np.exp(x - x.max(axis=int(axis), keepdims=True))
    return e / e.sum(axis=int(axis), keepdims=True)


def log_sum_exp(x, axes, keep_dims):
    axes = tuple(int(a) for a in axes)
    top = x.max(axis=axes, keepdims=True)
    y = np.log(np.exp(x - top).sum(axis=axes, keepdims=True)) + top
    return y if keep_dims else y.squeeze(axes)


def gelu(x, mode):
    if mode == "EXACT":
        return x * (1 + erf(x / np.sqrt(2))) / 2
    return x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2


def slice_by_index(x, begin, end, stride, begin_mask, end_mask, squeeze_mask):
    index = [
        slice(None if bm else int(b), None if em else int(e), int(s))
        for b, e, s, bm, em in zip(begin, end, stride, begin_mask, end_mask)
    ]
    assert not any(squeeze_mask)
    return x[tuple(index)]


def pad_any(x, pad, mode, constant_val):
    pad = np.asarray(pad).reshape(-1, 2)
    width = [(0, 0)] * (x.ndim - len(pad)) + [tuple(int(v) for v in p) for p in pad]
    if mode == "constant":
        return np.pad(x, width, constant_values=constant_val)
    return np.pad(x, width, mode={"reflect": "reflect", "replicate": "edge"}[mode])


def split(x, split_sizes, axis):
    return np.split(x, np.cumsum(split_sizes)[:-1], axis=int(axis))


def matmul(x, y, transpose_x, transpose_y):
    x = np.swapaxes(x, -1, -2) if transpose_x else x
    return np.matmul(x, np.swapaxes(y, -1, -2) if transpose_y else y)


def prelu(x, alpha):
    return np.where(x >= 0, x, x * channels(alpha, x))


def axes_of(function):
    return lambda x, axes, keep_dims: function(x, axis=tuple(int(a) for a in axes), keepdims=bool(keep_dims))


def lut_to_dense(indices, lut):
    """Each index looked up in the table of its place: the weight's axes divided evenly among the tables."""
    assert lut.shape[-1] == 1 and lut.ndim == indices.ndim + 2
    cells = [np.arange(n) // (n // t) for n, t in zip(indices.shape, lut.shape)]
    grid = np.meshgrid(*cells, indexing="ij")
    return lut[..., 0][(*grid, np.asarray(indices).astype(np.int64))]


OPERATIONS = {
    "conv": conv,
    "conv_transpose": conv_transpose,
    "linear": lambda x, weight, bias=0.0: x @ weight.T + bias,
    "matmul": matmul,
    "max_pool": max_pool,
    "avg_pool": avg_pool,
    "reduce_mean": axes_of(np.mean),
    "reduce_sum": axes_of(np.sum),
    "reduce_max": axes_of(np.max),
    "reduce_log_sum_exp": log_sum_exp,
    "batch_norm": batch_norm,
    "local_response_norm": local_response_norm,
    "layer_norm": layer_norm,
    "instance_norm": instance_norm,
    "softmax": softmax,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "clip": lambda x, alpha, beta: np.clip(x, alpha, beta),
    "leaky_relu": lambda x, alpha: np.where(x >= 0, x, alpha * x),
    "elu": lambda x, alpha: np.where(x > 0, x, alpha * (np.exp(np.minimum(x, 0)) - 1)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "sigmoid_hard": lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1),
    "tanh": lambda x: np.tanh(x),
    "exp": lambda x: np.exp(x),
    "log": lambda x, epsilon: np.log(x + epsilon),
    "sqrt": lambda x: np.sqrt(x),
    "abs": lambda x: np.abs(x),
    "erf": erf,
    "gelu": gelu,
    "softplus": lambda x: np.logaddexp(0, x),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "sign": lambda x: np.sign(x),
    "floor": lambda x: np.floor(x),
    "ceil": lambda x: np.ceil(x),
    "round": lambda x: np.round(x),
    "prelu": prelu,
    "add": lambda x, y: np.add(x, y),
    "sub": lambda x, y: np.subtract(x, y),
    "mul": lambda x, y: np.multiply(x, y),
    "real_div": lambda x, y: np.divide(x, y),
    "maximum": lambda x, y: np.maximum(x, y),
    "minimum": lambda x, y: np.minimum(x, y),
    "pow": lambda x, y: np.power(x, y),
    "concat": lambda values, axis, interleave: np.concatenate(values, axis=int(axis)),
    "split": split,
    "reshape": lambda x, shape: x.reshape([int(s) for s in shape]),
    "transpose": lambda x, perm: x.transpose([int(p) for p in perm]),
    "slice_by_index": slice_by_index,
    "pad": pad_any,
    "gather": lambda x, indices, axis, batch_dims, validate_indices: np.take(x, indices, axis=int(axis)),
    "tile": lambda x, reps: np.tile(x, [int(r) for r in reps]),
    "identity": lambda x: x,
    "cast": lambda x, dtype: x.astype({"int32": np.int32, "fp32": np.float32}[dtype]),
    "constexpr_lut_to_dense": lut_to_dense,
}


def run(program, inputs):
    """The outputs of `main` for the given inputs, both by name."""
    function = program.functions["main"]
    values = dict(inputs)

    def value(variable):
        if isinstance(variable, (list, tuple)):
            return [value(v) for v in variable]
        if variable.name in values:
            return values[variable.name]
        assert variable.val is not None, f"{variable.name} has no value"
        return variable.val

    for op in function.operations:
        if op.op_type == "const":
            continue
        # Optional inputs that a program leaves out appear as defaults; those that it names are all that is used.
        arguments = {k: value(v) for k, v in op.inputs.items() if v is not None and not k.startswith("_")}
        made = OPERATIONS[op.op_type](**arguments)
        made = made if len(op.outputs) > 1 else [made]
        for variable, result in zip(op.outputs, made):
            result = np.asarray(result)
            result = result.astype(np.float32) if result.dtype == np.float64 else result
            assert tuple(variable.shape) == result.shape, f"{op.op_type} {variable.name}: {variable.shape} {result.shape}"
            values[variable.name] = result
    return {v.name: values[v.name] for v in function.outputs}
