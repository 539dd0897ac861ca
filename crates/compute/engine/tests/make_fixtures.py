"""Makes the reference values in fixtures/: operators and small trainings, computed by PyTorch in double precision.

    python make_fixtures.py        (needs torch, numpy, safetensors)

Each operator case feeds data and weights through ONNX nodes (read by the tests) and through the same functions of
PyTorch (here). The scalar that is differentiated is a softmax cross-entropy of a fixed projection of the output.
Beside the gradients that PyTorch derives, central differences of that scalar in double precision are kept, along one
direction for each tensor; they need no rule of differentiation.
"""

import json
import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

import wide_fixtures

HERE = pathlib.Path(__file__).parent / "fixtures"
torch.set_default_dtype(torch.float64)
CASES, TENSORS = [], {}
CLASSES, LABEL = 4, 1


def random(seed, *shape):
    """Values on a grid of 1/64 within about two, so that 32-bit floats hold them exactly."""
    draw = np.random.default_rng(seed).normal(size=shape)
    return torch.tensor(np.round(np.clip(draw, -3, 3) * 64) / 64)


def projection(n):
    i, j = np.arange(n)[:, None], np.arange(CLASSES)[None, :]
    return torch.tensor(((i * 37 + j * 101) % 17 - 8) / 8 / math.sqrt(n))


def direction(n):
    return torch.tensor(((np.arange(n) * 37) % 17 - 8) / 8)


def slope(scalar, leaves, key, step=1e-6):
    """Central difference of `scalar` along `direction` of leaf `key`; None where the two sides show a kink."""
    leaf = leaves[key].detach()
    along = direction(leaf.numel()).reshape(leaf.shape)

    def at(shift):
        return scalar(*[v.detach() + shift * along if k == key else v.detach() for k, v in leaves.items()]).item()

    left, middle, right = at(-step), at(0.0), at(step)
    if abs((right - middle) - (middle - left)) > 1e-4 * step:
        return None
    return (right - left) / (2 * step)


def node(op, inputs, outputs="y", **attributes):
    return {"op": op, "inputs": inputs.split(), "outputs": outputs.split(), "attributes": attributes}


def case(name, nodes, function, data, weights=None, opset=13, ints=None, floats=None, batch_norm=False, statistics=None):
    """`function(*tensors)` gives y; `-` stands for an omitted input. `ints` and `floats` are constants that are not trained."""
    weights, ints, floats = weights or {}, ints or {}, floats or {}
    leaves = {k: v.clone().requires_grad_() for k, v in {**data, **weights}.items()}
    y = function(*leaves.values())

    def scalar(*values):
        y = function(*values)
        return F.cross_entropy(y.reshape(1, -1) @ projection(y.numel()), torch.tensor([LABEL]))

    # A batch-norm in training moves its statistics at every call: of those, PyTorch's gradients are all there is.
    slopes = {} if batch_norm else {k: slope(scalar, leaves, k) for k in leaves}
    loss = F.cross_entropy(y.reshape(1, -1) @ projection(y.numel()), torch.tensor([LABEL]))
    loss.backward()
    save = lambda key, value: TENSORS.__setitem__(f"{name}/{key}", np.ascontiguousarray(value.detach().numpy(), np.float32))
    for key, leaf in leaves.items():
        save(key, leaf)
        save(f"gradient/{key}", leaf.grad if leaf.grad is not None else torch.zeros_like(leaf))
    for key, value in floats.items():
        save(key, value)
    for key, value in (statistics or {}).items():
        save(f"after/{key}", value)
    save("y", y)
    CASES.append({
        "name": name, "opset": opset, "nodes": nodes, "loss": loss.item(), "batch_norm": batch_norm,
        "data": list(data), "weights": list(weights), "floats": list(floats), "ints": ints, "after": list(statistics or {}), "slopes": {k: v for k, v in slopes.items() if v is not None},
    })


def convolutions():
    def conv(name, x, w, b=True, pads=(0, 0, 0, 0), strides=(1, 1), dilations=(1, 1), group=1, post=None, auto=None):
        x, w = random(1, *x), random(2, *w) / 4
        weights = {"w": w, "b": random(3, w.shape[0])} if b else {"w": w}

        def run(x, w, b=None):
            x = F.pad(x, (pads[1], pads[3], pads[0], pads[2]))
            y = F.conv2d(x, w, b, strides, 0, dilations, group)
            return {None: lambda v: v, "Relu": torch.relu, "Clip": lambda v: v.clamp(-0.5, 1.0)}[post](y)

        attributes = dict(kernel_shape=list(w.shape[2:]), strides=list(strides), dilations=list(dilations), group=group)
        attributes.update({"auto_pad": auto} if auto else {"pads": list(pads)})
        nodes = [node("Conv", "x w b" if b else "x w", "y" if post is None else "z", **attributes)]
        if post == "Relu":
            nodes.append(node("Relu", "z"))
        if post == "Clip":
            nodes.append(node("Clip", "z lo hi"))
        floats = {"lo": torch.tensor(-0.5), "hi": torch.tensor(1.0)} if post == "Clip" else {}
        case(name, nodes, run, {"x": x}, weights, floats=floats)

    conv("conv", (2, 3, 7, 6), (4, 3, 3, 3))
    conv("conv_no_bias", (1, 2, 6, 6), (3, 2, 5, 5), b=False)
    conv("conv_padded", (2, 3, 5, 6), (4, 3, 3, 3), pads=(1, 1, 1, 1))
    conv("conv_wide", (1, 16, 8, 8), (16, 16, 3, 3), pads=(1, 1, 1, 1))
    conv("conv_winograd", (2, 16, 13, 10), (16, 16, 3, 3), pads=(1, 0, 2, 1))
    conv("conv_asymmetric", (1, 2, 6, 5), (3, 2, 3, 3), pads=(0, 2, 1, 0))
    conv("conv_strided", (2, 3, 9, 8), (4, 3, 3, 3), pads=(1, 1, 1, 1), strides=(2, 2))
    conv("conv_uneven", (1, 2, 9, 10), (3, 2, 2, 4), pads=(1, 0, 0, 2), strides=(3, 2))
    conv("conv_dilated", (1, 2, 9, 9), (3, 2, 3, 3), pads=(2, 2, 2, 2), dilations=(2, 2))
    conv("conv_groups", (2, 4, 6, 6), (6, 2, 3, 3), group=2, pads=(1, 1, 1, 1))
    conv("conv_depthwise", (2, 5, 7, 7), (5, 1, 3, 3), group=5, pads=(1, 1, 1, 1))
    conv("conv_depthwise_strided", (1, 5, 8, 8), (5, 1, 3, 3), group=5, pads=(1, 1, 1, 1), strides=(2, 2))
    conv("conv_depthwise_multiplied", (1, 3, 6, 6), (6, 1, 3, 3), group=3)
    conv("conv_pointwise", (2, 6, 4, 5), (7, 6, 1, 1))
    conv("conv_pointwise_strided", (2, 4, 5, 5), (3, 4, 1, 1), strides=(2, 2))
    conv("conv_large_stride", (1, 3, 23, 23), (4, 3, 11, 11), strides=(4, 4))
    conv("conv_same_upper", (1, 2, 6, 7), (3, 2, 3, 3), pads=(0, 1, 1, 1), strides=(2, 2), auto="SAME_UPPER")
    conv("conv_same_lower", (1, 2, 6, 7), (3, 2, 3, 3), pads=(1, 1, 0, 1), strides=(2, 2), auto="SAME_LOWER")
    conv("conv_valid", (1, 2, 6, 7), (3, 2, 3, 3), auto="VALID")
    conv("conv_relu", (2, 3, 6, 6), (4, 3, 3, 3), post="Relu")
    conv("conv_clip", (2, 3, 6, 6), (4, 3, 3, 3), post="Clip")

    def transposed(name, x, w, b=True, pads=0, strides=1, dilations=1, group=1, extra=0):
        x, w = random(1, *x), random(2, *w) / 4
        weights = {"w": w, **({"b": random(3, w.shape[1] * group)} if b else {})}
        run = lambda x, w, b=None: F.conv_transpose2d(x, w, b, strides, pads, extra, group, dilations)
        attributes = dict(strides=[strides] * 2, dilations=[dilations] * 2, group=group, pads=[pads] * 4)
        attributes.update(kernel_shape=list(w.shape[2:]), output_padding=[extra] * 2)
        case(name, [node("ConvTranspose", "x w b" if b else "x w", **attributes)], run, {"x": x}, weights)

    transposed("deconv", (2, 3, 4, 5), (3, 2, 3, 3))
    transposed("deconv_strided", (1, 3, 4, 4), (3, 2, 3, 3), strides=2, pads=1, extra=1)
    transposed("deconv_groups", (1, 4, 4, 4), (4, 2, 2, 2), strides=2, group=2, b=False)
    transposed("deconv_dilated", (1, 2, 4, 4), (2, 3, 3, 3), dilations=2, pads=1)

    # Larger than any padding gives: the output is extended.
    case("deconv_output_shape", [node("ConvTranspose", "x w", strides=[3, 2], output_shape=[10, 8])],
         lambda x, w: F.conv_transpose2d(x, w, None, (3, 2), 0, (1, 1)), {"x": random(1, 1, 2, 3, 3)}, {"w": random(2, 2, 3, 3, 3) / 4})

    w = random(4, 3, 3, 3, 3) / 4
    case("conv_shared", [
        node("Conv", "x w", "p", pads=[1] * 4), node("Relu", "p", "q"), node("Conv", "q w", "r", pads=[1] * 4),
        node("Add", "r x")], lambda x, w: F.conv2d(F.conv2d(x, w, padding=1).relu(), w, padding=1) + x,
        {"x": random(1, 2, 3, 5, 5)}, {"w": w})


def products():
    def gemm(name, a, b, c=None, alpha=1.0, beta=1.0, ta=0, tb=0, post=False):
        weights = {"b": random(2, *b) / 2, **({} if c is None else {"c": random(3, *c)})}

        def run(a, b, c=None):
            y = alpha * (a.T if ta else a) @ (b.T if tb else b)
            y = y if c is None else y + beta * c
            return y.relu() if post else y

        nodes = [node("Gemm", "a b" if c is None else "a b c", "z" if post else "y", alpha=alpha, beta=beta, transA=ta, transB=tb)]
        nodes += [node("Relu", "z")] if post else []
        case(name, nodes, run, {"a": random(1, *a)}, weights)

    gemm("gemm", (3, 5), (5, 4))
    gemm("gemm_linear", (3, 5), (4, 5), (4,), tb=1)
    gemm("gemm_relu", (5, 6), (7, 6), (7,), tb=1, post=True)
    gemm("gemm_transposed", (5, 3), (4, 5), (1, 4), ta=1, tb=1)
    gemm("gemm_transposed_a", (5, 3), (5, 4), (3, 4), ta=1)
    gemm("gemm_factors", (3, 5), (5, 4), (3, 1), alpha=0.5, beta=2.0)
    gemm("gemm_column", (3, 5), (5, 1), (1,), beta=0.25)
    gemm("gemm_wide", (33, 40), (50, 40), (50,), tb=1)

    def matmul(name, a, b):
        case(name, [node("MatMul", "a b")], lambda a, b: a @ b, {"a": random(1, *a)}, {"b": random(2, *b)})

    matmul("matmul", (3, 4), (4, 5))
    matmul("matmul_stack", (2, 3, 4), (4, 5))
    matmul("matmul_stacks", (2, 3, 4), (2, 4, 2))
    matmul("matmul_broadcast", (2, 1, 3, 4), (3, 4, 2))
    matmul("matmul_row", (4,), (4, 3))
    matmul("matmul_column", (2, 3, 4), (4,))
    case("matmul_of_data", [node("MatMul", "a b")], lambda a, b: a @ b, {"a": random(1, 3, 4), "b": random(2, 4, 2)})


def pooling():
    def largest(name, x, k, s, pads=(0, 0, 0, 0), ceil=0, dilations=1):
        x = random(1, *x) + torch.arange(math.prod(x)).reshape(x) / 4096

        def run(x):
            x = F.pad(x, (pads[1], pads[3], pads[0], pads[2]), value=-math.inf)
            return F.max_pool2d(x, k, s, 0, dilations, bool(ceil))

        attributes = dict(kernel_shape=[k, k], strides=[s, s], pads=list(pads), ceil_mode=ceil, dilations=[dilations] * 2)
        case(name, [node("MaxPool", "x", **attributes)], run, {"x": x})

    largest("maxpool", (2, 3, 6, 6), 2, 2)
    largest("maxpool_odd", (1, 2, 7, 7), 2, 2)
    largest("maxpool_overlap", (2, 3, 9, 9), 3, 2)
    largest("maxpool_ceil", (2, 2, 8, 8), 3, 2, ceil=1)
    largest("maxpool_padded", (1, 2, 7, 7), 3, 2, (1, 1, 1, 1))
    largest("maxpool_asymmetric", (1, 2, 6, 6), 3, 2, (0, 0, 1, 1))
    largest("maxpool_dilated", (1, 2, 8, 8), 3, 1, dilations=2)
    # The last window would start in the padding: PyTorch drops it when it knows that it is padding.
    x = random(1, 1, 2, 5, 5)
    case("maxpool_ceil_padded", [node("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2], pads=[1] * 4, ceil_mode=1)],
         lambda x: F.max_pool2d(x, 2, 2, 1, ceil_mode=True), {"x": x + torch.arange(50).reshape(x.shape) / 4096})

    def average(name, x, k, s, pad=0, ceil=0, include=0):
        attributes = dict(kernel_shape=[k, k], strides=[s, s], pads=[pad] * 4, ceil_mode=ceil, count_include_pad=include)
        run = lambda x: F.avg_pool2d(x, k, s, pad, bool(ceil), bool(include))
        case(name, [node("AveragePool", "x", **attributes)], run, {"x": random(1, *x)}, opset=19)

    average("avgpool", (2, 3, 6, 6), 2, 2)
    average("avgpool_overlap", (1, 3, 7, 7), 3, 2)
    average("avgpool_ceil", (1, 2, 8, 8), 3, 2, ceil=1)
    average("avgpool_padded", (1, 2, 7, 7), 3, 2, pad=1)
    average("avgpool_padded_counted", (1, 2, 7, 7), 3, 2, pad=1, include=1)
    average("avgpool_ceil_padded", (1, 2, 8, 8), 3, 2, pad=1, ceil=1)
    average("avgpool_ceil_padded_counted", (1, 2, 8, 8), 3, 2, pad=1, ceil=1, include=1)
    case("global_average", [node("GlobalAveragePool", "x")], lambda x: x.mean((2, 3), keepdim=True), {"x": random(1, 2, 3, 4, 5)})
    case("global_max", [node("GlobalMaxPool", "x")], lambda x: x.amax((2, 3), keepdim=True), {"x": random(7, 2, 3, 3, 5) + torch.arange(90).reshape(2, 3, 3, 5) / 4096})


def normalisation():
    for name, shape, train, post in [
        ("bn_frozen", (3, 4, 3, 2), False, None), ("bn_frozen_relu", (3, 4, 3, 2), False, "Relu"),
        ("bn_train", (3, 4, 3, 2), True, None), ("bn_train_relu", (3, 4, 3, 5), True, "Relu"),
        ("bn_train_clip", (3, 4, 3, 5), True, "Clip"), ("bn_train_flat", (6, 3), True, None), ("bn_frozen_flat", (6, 3), False, None),
    ]:
        c = shape[1]
        mean, var = random(5, c), random(6, c).abs() + 0.5
        weights = {"gamma": random(3, c), "beta": random(4, c)}
        act = {None: lambda v: v, "Relu": torch.relu, "Clip": lambda v: v.clamp(-0.5, 0.75)}[post]
        moved = {"mean": mean.clone(), "var": var.clone()}

        def run(x, gamma, beta, moved=moved, train=train, act=act):
            return act(F.batch_norm(x, moved["mean"], moved["var"], gamma, beta, train, 0.125, 1e-3))

        floats = {"mean": mean, "var": var}
        nodes = [node("BatchNormalization", "x gamma beta mean var", "z" if post else "y", epsilon=1e-3, momentum=0.875)]
        if post == "Relu":
            nodes.append(node("Relu", "z"))
        if post == "Clip":
            nodes.append(node("Clip", "z lo hi"))
            floats |= {"lo": torch.tensor(-0.5), "hi": torch.tensor(0.75)}
        case(name, nodes, run, {"x": random(1, *shape)}, weights, floats=floats, batch_norm=train, statistics=moved)
    for name, size, alpha, beta, bias in [("lrn", 5, 1e-4, 0.75, 1.0), ("lrn_strong", 3, 0.5, 0.75, 2.0), ("lrn_power", 5, 0.9, 0.6, 1.5)]:
        case(name, [node("LRN", "x", size=size, alpha=alpha, beta=beta, bias=bias)],
             lambda x: F.local_response_norm(x, size, alpha, beta, bias), {"x": random(1, 2, 7, 3, 3)})
    w = {"w": random(2, 4, 3, 3, 3) / 4, "gamma": random(3, 4), "beta": random(4, 4)}
    mean, var = random(5, 4), random(6, 4).abs() + 0.5
    case("conv_bn_relu", [node("Conv", "x w", "p"), node("BatchNormalization", "p gamma beta mean var", "q"), node("Relu", "q")],
         lambda x, w, gamma, beta: F.batch_norm(F.conv2d(x, w), mean, var, gamma, beta, False).relu(),
         {"x": random(1, 2, 3, 5, 5)}, w, floats={"mean": mean, "var": var})


def functions():
    x, positive = random(1, 2, 3, 2, 5), random(1, 2, 3, 2, 5).abs() + 0.25
    for op, run, data, attributes in [
        ("Relu", torch.relu, x, {}), ("LeakyRelu", lambda x: F.leaky_relu(x, 0.1), x, {"alpha": 0.1}),
        ("Elu", lambda x: F.elu(x, 0.7), x, {"alpha": 0.7}), ("Sigmoid", torch.sigmoid, x, {}), ("Tanh", torch.tanh, x, {}),
        ("HardSigmoid", lambda x: (0.3 * x + 0.4).clamp(0, 1), x, {"alpha": 0.3, "beta": 0.4}),
        ("HardSwish", F.hardswish, x * 2, {}), ("Exp", torch.exp, x, {}), ("Log", torch.log, positive, {}),
        ("Sqrt", torch.sqrt, positive, {}), ("Abs", torch.abs, x, {}), ("Neg", torch.neg, x, {}),
        ("Reciprocal", torch.reciprocal, positive, {}), ("Erf", torch.erf, x, {}), ("Identity", lambda x: x * 1, x, {}),
    ]:
        case(op.lower(), [node(op, "x", **attributes)], run, {"x": data}, opset=14)
    lo, hi = torch.tensor(-0.51), torch.tensor(0.73)
    case("clip", [node("Clip", "x lo hi")], lambda x: x.clamp(-0.51, 0.73), {"x": x}, floats={"lo": lo, "hi": hi})
    case("clip_above", [node("Clip", "x - hi")], lambda x: x.clamp(max=0.73), {"x": x}, floats={"hi": hi})
    case("clip_attributes", [node("Clip", "x", min=0.0, max=1.3)], lambda x: x.clamp(0.0, 1.3), {"x": x}, opset=9)
    case("prelu", [node("PRelu", "x s")], lambda x, s: torch.where(x > 0, x, s * x), {"x": x}, {"s": random(2, 3, 1, 1)})
    case("prelu_row", [node("PRelu", "x s")], lambda x, s: torch.where(x > 0, x, s * x), {"x": x}, {"s": random(2, 5)})
    case("prelu_each", [node("PRelu", "x s")], lambda x, s: torch.where(x > 0, x, s * x), {"x": x, "s": random(2, 3, 2, 5)})
    case("prelu_single", [node("PRelu", "x s")], lambda x, s: torch.where(x > 0, x, s * x), {"x": x}, {"s": random(2, 1)})
    for name, axis in [("softmax", 1), ("softmax_last", 3)]:
        case(name, [node("Softmax", "x", axis=axis)], lambda x: x.softmax(axis), {"x": x})
        case("log_" + name, [node("LogSoftmax", "x", axis=axis)], lambda x: x.log_softmax(axis), {"x": x})
    case("softmax_flattened", [node("Softmax", "x", axis=2)], lambda x: x.reshape(6, 10).softmax(1).reshape(x.shape), {"x": x}, opset=9)


def binaries():
    a, shapes = random(1, 2, 3, 4, 2), {"equal": (2, 3, 4, 2), "channel": (3, 1, 1), "row": (4, 2), "image": (2, 1, 4, 1)}
    for op, run in [("Add", torch.add), ("Sub", torch.sub), ("Mul", torch.mul), ("Div", torch.div)]:
        for kind, shape in shapes.items():
            b = random(2, *shape)
            b = b.sign() * (b.abs() + 0.5) + (b == 0) if op == "Div" else b
            case(f"{op.lower()}_{kind}", [node(op, "a b")], run, {"a": a, "b": b})
        b = torch.where(a.abs() < 0.25, a.abs() + 0.5, a)
        case(f"{op.lower()}_swapped", [node(op, "a b")], run, {"a": random(2, 3, 1, 1), "b": b})
    case("add_weight", [node("Add", "a w")], lambda a, w: a + w, {"a": a}, {"w": random(3, 3, 1, 1)})
    case("mul_weight", [node("Mul", "a w")], lambda a, w: a * w, {"a": a}, {"w": random(3, 3, 1, 1)})
    case("add_relu", [node("Add", "a b", "z"), node("Relu", "z")], lambda a, b: (a + b).relu(), {"a": a, "b": random(2, 2, 3, 4, 2)})
    case("double", [node("Add", "a a")], lambda a: a + a, {"a": a})
    case("square", [node("Mul", "a a")], lambda a: a * a, {"a": a})
    case("sum", [node("Sum", "a b a")], lambda a, b: a + b + a, {"a": a, "b": random(2, 4, 2)})
    for op, run in [("Max", torch.maximum), ("Min", torch.minimum)]:
        case(op.lower(), [node(op, "a b")], run, {"a": a, "b": random(2, 3, 1, 1) + 1 / 128})
        case(op.lower() + "_of_three", [node(op, "a b c")], lambda a, b, c: run(run(a, b), c),
             {"a": a, "b": random(2, 3, 1, 1) + 1 / 128, "c": random(3, 2, 3, 4, 2) + 1 / 256})
    case("pow", [node("Pow", "a b")], torch.pow, {"a": a.abs() + 0.25, "b": random(2, 4, 2)})
    case("pow_constant", [node("Pow", "a e")], lambda a: a**3, {"a": a}, floats={"e": torch.tensor(3.0)})
    three = {"hs_three": torch.tensor(3.0), "hs_zero": torch.tensor(0.0), "hs_six": torch.tensor(6.0)}
    case("hardswish_spelled_out", [node("Add", "a hs_three", "p"), node("Clip", "p hs_zero hs_six", "q"), node("Mul", "a q", "r"), node("Div", "r hs_six")],
         lambda a: a * (a + 3).clamp(0, 6) / 6, {"a": a * 2}, floats=three)


def layouts():
    x = random(1, 2, 3, 4, 5)
    ints = lambda **k: k
    case("concat", [node("Concat", "a b a", axis=1)], lambda a, b: torch.cat([a, b, a], 1), {"a": random(1, 2, 2, 3, 3), "b": random(2, 2, 4, 3, 3)})
    case("concat_last", [node("Concat", "a b", axis=-1)], lambda a, b: torch.cat([a, b], 3), {"a": random(1, 2, 2, 3, 1), "b": random(2, 2, 2, 3, 4)})
    case("split", [node("Split", "x sizes", "p q r", axis=1), node("Relu", "q", "s"), node("Concat", "s r p", axis=1)],
         lambda x: torch.cat([x[:, 1:2].relu(), x[:, 2:3], x[:, :1]], 1), {"x": x}, ints=ints(sizes=[1, 1, 1]))
    case("flatten", [node("Flatten", "x", "z", axis=2), node("Relu", "z")], lambda x: x.reshape(6, 20).relu(), {"x": x})
    case("reshape", [node("Reshape", "x s", "z"), node("Tanh", "z")], lambda x: x.reshape(2, 12, 5).tanh(), {"x": x}, ints=ints(s=[0, -1, 5]))
    case("squeeze", [node("Unsqueeze", "x ax", "p"), node("Exp", "p", "q"), node("Squeeze", "q ax")], lambda x: x.exp(), {"x": x}, ints=ints(ax=[2]))
    for name, perm in [("transpose", [0, 2, 3, 1]), ("transpose_all", [3, 2, 1, 0]), ("transpose_images", [1, 0, 2, 3])]:
        case(name, [node("Transpose", "x", perm=perm)], lambda x: x.permute(perm) * 1, {"x": x})
    case("slice", [node("Slice", "x st en ax sp")], lambda x: x[:, :, ::2, 1:4], {"x": x}, ints=ints(st=[0, 1], en=[100, 4], ax=[2, 3], sp=[2, 1]))
    case("slice_reversed", [node("Slice", "x st en ax sp")], lambda x: x[:, :, :, 1:].flip(3), {"x": x}, ints=ints(st=[-1], en=[0], ax=[3], sp=[-1]))
    for mode, theirs in [("constant", "constant"), ("reflect", "reflect"), ("edge", "replicate")]:
        case(f"pad_{mode}", [node("Pad", "x p", mode=mode)], lambda x: F.pad(x, (2, 1, 1, 0), theirs), {"x": x}, ints=ints(p=[0, 0, 1, 2, 0, 0, 0, 1]))
    case("pad_value", [node("Pad", "x p v")], lambda x: F.pad(x, (0, 0, 0, 0, 2, 1), value=1.5), {"x": x}, ints=ints(p=[0, 2, 0, 0, 0, 1, 0, 0]), floats={"v": torch.tensor(1.5)})
    case("pad_negative", [node("Pad", "x p")], lambda x: F.pad(x, (-1, 1)), {"x": x}, ints=ints(p=[0, 0, 0, -1, 0, 0, 0, 1]))
    case("shortcut", [node("Slice", "x st en ax sp", "s"), node("Pad", "s p")], lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 2)), {"x": x},
         ints=ints(st=[0, 0], en=[9, 9], ax=[2, 3], sp=[2, 2], p=[0, 1, 0, 0, 0, 2, 0, 0]))
    for op, run in [("ReduceMean", torch.mean), ("ReduceSum", torch.sum)]:
        modern = dict(opset=18, ints=ints(ax=[2, 3]))
        case(op.lower(), [node(op, "x ax", keepdims=0)], lambda x: run(x, (2, 3)), {"x": x}, **modern)
        case(op.lower() + "_kept", [node(op, "x ax", keepdims=1)], lambda x: run(x, (1,), keepdim=True), {"x": x}, opset=18, ints=ints(ax=[1]))
    case("reducemean_attribute", [node("ReduceMean", "x", axes=[-1], keepdims=0)], lambda x: x.mean(3), {"x": x}, opset=11)
    case("weight_transposed", [node("Transpose", "w", "t", perm=[1, 0]), node("MatMul", "a t")], lambda a, w: a @ w.T, {"a": random(1, 3, 4)}, {"w": random(2, 5, 4)})


# ---- small trainings -------------------------------------------------------------------------------------------------

def lenet(p, x, train):
    x = F.max_pool2d(F.conv2d(x, p["c1.w"], p["c1.b"]), 2, 2)
    x = F.max_pool2d(F.conv2d(x, p["c2.w"], p["c2.b"]).relu(), 3, 2, ceil_mode=True)
    x = F.linear(x.flatten(1), p["f1.w"], p["f1.b"]).relu()
    return F.linear(x, p["f2.w"], p["f2.b"])


def resnet(p, x, train):
    def bn(x, name):
        return F.batch_norm(x, p[name + ".mean"], p[name + ".var"], p[name + ".gamma"], p[name + ".beta"], train, 0.1, 1e-5)
    x = bn(F.conv2d(x, p["c0.w"], padding=1), "b0").relu()
    y = bn(F.conv2d(x, p["c1.w"], padding=1), "b1").relu()
    x = (bn(F.conv2d(y, p["c2.w"], padding=1), "b2") + x).relu()
    y = bn(F.conv2d(x, p["c3.w"], padding=1, stride=2), "b3").relu()
    y = bn(F.conv2d(y, p["c4.w"], padding=1), "b4")
    x = (y + bn(F.conv2d(x, p["c5.w"], stride=2), "b5")).relu()
    return F.linear(x.mean((2, 3)), p["fc.w"], p["fc.b"])


def training(name, network, shapes, image, steps=6, batch=8, classes=5):
    p, decay, rate, mu = {}, 0.01, 0.05, 0.9
    for i, (key, shape) in enumerate(shapes.items()):
        value = random(100 + i, *shape)
        if key.endswith((".mean", ".b", ".beta")):
            value = value / 8
        elif key.endswith((".gamma", ".var")):
            value = 1 + value.abs() / 4
        else:
            value = torch.tensor((value / math.sqrt(math.prod(shape[1:]))).numpy().astype(np.float32).astype(np.float64))
        p[key] = value
    save = lambda key, value: TENSORS.__setitem__(f"{name}/{key}", np.ascontiguousarray(value.detach().numpy(), np.float32))
    for key, value in p.items():
        save(f"before/{key}", value)
        if not key.endswith((".mean", ".var")):
            value.requires_grad_()
    images, labels = random(55, steps, batch, *image), torch.tensor(np.random.default_rng(56).integers(0, classes, (steps, batch)))
    save("images", images)
    save("labels", labels)
    trained = [v for v in p.values() if v.requires_grad]
    optimizer = torch.optim.SGD(trained, rate, mu, weight_decay=decay)
    losses, hits = [], []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate if step < 4 else rate / 2
        logits = network(p, images[step], True)
        loss = F.cross_entropy(logits, labels[step])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        hits.append(int((logits.argmax(1) == labels[step]).sum()))
    for key, value in p.items():
        save(f"after/{key}", value)
    save("logits", network(p, images[0], False))
    return {"name": name, "losses": losses, "hits": hits, "steps": steps, "batch": batch, "parameters": list(p)}


def main():
    for group in [convolutions, products, pooling, normalisation, functions, binaries, layouts, *wide_fixtures.groups(case, node, random)]:
        group()
    trainings = [training("lenet", lenet, {
        "c1.w": (4, 1, 5, 5), "c1.b": (4,), "c2.w": (6, 4, 3, 3), "c2.b": (6,),
        "f1.w": (12, 24), "f1.b": (12,), "f2.w": (5, 12), "f2.b": (5,)}, (1, 18, 18))]
    shapes = {"c0.w": (4, 3, 3, 3), "c1.w": (4, 4, 3, 3), "c2.w": (4, 4, 3, 3), "c3.w": (6, 4, 3, 3), "c4.w": (6, 6, 3, 3), "c5.w": (6, 4, 1, 1)}
    for i, c in enumerate([4, 4, 4, 6, 6, 6]):
        shapes |= {f"b{i}.{k}": (c,) for k in ["gamma", "beta", "mean", "var"]}
    trainings.append(training("resnet", resnet, shapes | {"fc.w": (5, 6), "fc.b": (5,)}, (3, 8, 8)))
    HERE.mkdir(exist_ok=True)
    save_file(TENSORS, HERE / "reference.safetensors")
    (HERE / "operators.json").write_text(json.dumps(CASES, indent=None, separators=(",", ":")).replace('{"name"', '\n{"name"') + "\n")
    (HERE / "trainings.json").write_text(json.dumps(trainings) + "\n")
    size = sum(f.stat().st_size for f in HERE.iterdir())
    print(f"{len(CASES)} operator cases, {len(trainings)} trainings, {size} bytes")


main()
