"""More cases for make_fixtures.py: resampling, statistics, repetition and order, windows over one and three axes, recurrent
layers, Einstein sums, attention. `case`, `node` and `random` are those of that file."""


import torch
import torch.nn.functional as F


def groups(case, node, random):
    def floats(*values):
        return torch.tensor(values)

    def resampling():
        x = random(1, 1, 2, 4, 5)
        up, down, odd = (2.0, 2.0), (0.5, 0.6), (1.5, 2.3)

        def resize(name, run, scales=None, sizes=None, **attributes):
            given, kind = (dict(floats={"s": floats(1.0, 1.0, *scales)}), "x - s") if scales else (dict(ints={"s": [1, 2, *sizes]}), "x - - s")
            case(f"resize_{name}", [node("Resize", kind, **attributes)], run, {"x": x}, opset=19, **given)

        torch_of = lambda mode, corners=None, aa=False: lambda **to: lambda x: F.interpolate(x, mode=mode, align_corners=corners, antialias=aa, **to)
        nearest, linear, cubic = torch_of("nearest"), torch_of("bilinear", False), torch_of("bicubic", False)
        asymmetric = dict(mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
        resize("nearest", nearest(scale_factor=up), scales=up, **asymmetric)
        resize("nearest_sizes", nearest(size=(7, 3)), sizes=(7, 3), **asymmetric)
        half = dict(mode="linear", coordinate_transformation_mode="pytorch_half_pixel")
        resize("linear", linear(scale_factor=up), scales=up, **half)
        resize("linear_odd", linear(scale_factor=odd, recompute_scale_factor=False), scales=odd, **half)
        resize("linear_down", linear(scale_factor=down, recompute_scale_factor=False), scales=down, **half)
        resize("linear_sizes", linear(size=(3, 8)), sizes=(3, 8), **half)
        corners = dict(mode="linear", coordinate_transformation_mode="align_corners")
        resize("corners", torch_of("bilinear", True)(size=(7, 9)), sizes=(7, 9), **corners)
        wave = dict(mode="cubic", coordinate_transformation_mode="half_pixel", cubic_coeff_a=-0.75)
        resize("cubic", cubic(scale_factor=up), scales=up, **wave)
        resize("cubic_sizes", cubic(size=(3, 8)), sizes=(3, 8), **wave)
        resize("cubic_corners", torch_of("bicubic", True)(size=(6, 8)), sizes=(6, 8), **{**wave, "coordinate_transformation_mode": "align_corners"})
        smooth = dict(mode="linear", coordinate_transformation_mode="half_pixel", antialias=1, exclude_outside=1)
        resize("antialias", torch_of("bilinear", False, True)(size=(2, 3)), sizes=(2, 3), **smooth)
        case("upsample", [node("Upsample", "x s", mode="nearest")], nearest(scale_factor=up), {"x": x}, opset=9, floats={"s": floats(1.0, 1.0, *up)})
        line = random(2, 2, 3, 6)
        case("resize_line", [node("Resize", "x - s", **half)], lambda x: F.interpolate(x, scale_factor=2.0, mode="linear"),
             {"x": line}, opset=19, floats={"s": floats(1.0, 1.0, 2.0)})
        blocks = random(3, 2, 8, 2, 3)
        case("pixel_shuffle", [node("DepthToSpace", "x", blocksize=2, mode="CRD")], lambda x: F.pixel_shuffle(x, 2), {"x": blocks})
        case("pixel_unshuffle", [node("SpaceToDepth", "x", blocksize=2)],
             lambda x: x.reshape(1, 2, 2, 2, 3, 2).permute(0, 3, 5, 1, 2, 4).reshape(1, 8, 2, 3), {"x": random(4, 1, 2, 4, 6)})

    def statistics():
        x = random(1, 2, 3, 4, 5) + torch.arange(120).reshape(2, 3, 4, 5) / 4096 + 1 / 8192
        positive = x.abs() + 0.25
        for op, run, data in [
            ("ReduceMax", torch.amax, x), ("ReduceMin", torch.amin, x), ("ReduceL1", lambda x, d, k: x.abs().sum(d, k), x),
            ("ReduceL2", lambda x, d, k: x.pow(2).sum(d, k).sqrt(), x), ("ReduceSumSquare", lambda x, d, k: x.pow(2).sum(d, k), x),
            ("ReduceLogSum", lambda x, d, k: x.sum(d, k).log(), positive), ("ReduceLogSumExp", torch.logsumexp, x),
        ]:
            case(op.lower(), [node(op, "x ax", keepdims=0)], lambda x: run(x, (1, 3), False), {"x": data}, opset=18, ints={"ax": [3, 1]})
            case(op.lower() + "_attribute", [node(op, "x", axes=[-1], keepdims=1)], lambda x: run(x, (3,), True), {"x": data}, opset=12)
        case("reduceprod", [node("ReduceProd", "x ax", keepdims=1)], lambda x: x.prod(2, True), {"x": x}, opset=18, ints={"ax": [2]})
        zeros = torch.tensor([[0.0, 2, 3], [0, 0, 5], [4, 2, 0.5]])
        case("reduceprod_zeros", [node("ReduceProd", "x", axes=[1])], lambda x: x.prod(1, True), {"x": zeros}, opset=13)
        case("reducemax_ties", [node("ReduceMax", "x", axes=[1])], lambda x: x.amax(1, True), {"x": torch.tensor([[1.0, 3, 3], [2, 2, 2]])}, opset=13)
        case("mean_of_three", [node("Mean", "a b a")], lambda a, b: (a + b + a) / 3, {"a": x, "b": random(2, 4, 5)})

    def order():
        x = random(5, 2, 3, 5) + torch.arange(30).reshape(2, 3, 5) / 4096
        case("topk", [node("TopK", "x k", "y i", axis=2)], lambda x: x.topk(2, 2).values, {"x": x}, ints={"k": [2]})
        case("topk_smallest", [node("TopK", "x k", "y i", axis=1, largest=0)], lambda x: x.topk(2, 1, largest=False).values, {"x": x}, ints={"k": [2]})
        case("tile", [node("Tile", "x r")], lambda x: x.repeat(2, 1, 3), {"x": x}, ints={"r": [2, 1, 3]})
        case("cumsum", [node("CumSum", "x ax")], lambda x: x.cumsum(1), {"x": x}, ints={"ax": [1]})
        case("cumsum_back", [node("CumSum", "x ax", exclusive=1, reverse=1)], lambda x: x.flip(2).cumsum(2).flip(2) - x, {"x": x}, ints={"ax": [-1]})
        case("trilu", [node("Trilu", "x k", upper=1)], lambda x: x.triu(1), {"x": x}, opset=14, ints={"k": [1]})
        case("trilu_lower", [node("Trilu", "x", upper=0)], lambda x: x.tril(), {"x": x}, opset=14)
        case("pad_wrap", [node("Pad", "x p", mode="wrap")], lambda x: F.pad(x, (2, 1), mode="circular"), {"x": x}, opset=19, ints={"p": [0, 0, 2, 0, 0, 1]})
        case("mod", [node("Mod", "a b", fmod=1)], torch.fmod, {"a": x, "b": random(6, 5).abs() + 1.01})
        case("sine", [node("Sin", "x", "s"), node("Cos", "x", "c"), node("Mul", "s c")], lambda x: x.sin() * x.cos(), {"x": x})
        case("celu", [node("Celu", "x", alpha=0.7)], lambda x: F.celu(x, 0.7), {"x": x})
        case("filled", [node("ConstantOfShape", "s", "z"), node("Add", "x z")], lambda x: x * 1, {"x": x}, ints={"s": [2, 3, 5]})

    def lines():
        def conv(name, x, w, run, op="Conv", data=None, **attributes):
            weights = {"w": random(2, *w) / 4, "b": random(3, w[1] * attributes.get("group", 1) if op == "ConvTranspose" else w[0])}
            case(name, [node(op, "x w b", **attributes)], run, {"x": random(1, *x)}, weights)

        conv("conv1d", (2, 3, 9), (4, 3, 3), lambda x, w, b: F.conv1d(x, w, b, 2, 1), strides=[2], pads=[1, 1])
        conv("conv1d_dilated", (1, 4, 12), (6, 2, 3), lambda x, w, b: F.conv1d(x, w, b, 1, 2, 2, 2), dilations=[2], pads=[2, 2], group=2, kernel_shape=[3])
        conv("conv1d_same", (1, 2, 7), (3, 2, 4), lambda x, w, b: F.conv1d(F.pad(x, (1, 2)), w, b), auto_pad="SAME_UPPER")
        conv("deconv1d", (2, 3, 5), (3, 2, 4), lambda x, w, b: F.conv_transpose1d(x, w, b, 2, 1, 1), "ConvTranspose", strides=[2], pads=[1, 1], output_padding=[1])
        conv("conv3d", (2, 3, 4, 5, 4), (4, 3, 3, 2, 3), lambda x, w, b: F.conv3d(x, w, b, (2, 1, 1), (1, 0, 1)), strides=[2, 1, 1], pads=[1, 0, 1, 1, 0, 1])
        conv("conv3d_groups", (1, 4, 5, 3, 3), (6, 2, 2, 3, 3), lambda x, w, b: F.conv3d(x, w, b, 1, (0, 1, 1), (2, 1, 1), 2), dilations=[2, 1, 1], pads=[0, 1, 1, 0, 1, 1], group=2)
        conv("deconv3d", (1, 3, 3, 2, 3), (3, 2, 3, 2, 2), lambda x, w, b: F.conv_transpose3d(x, w, b, (2, 1, 2), (1, 0, 0), (1, 0, 0)), "ConvTranspose",
             strides=[2, 1, 2], pads=[1, 0, 0, 1, 0, 0], output_padding=[1, 0, 0])
        conv("deconv3d_groups", (1, 4, 2, 2, 2), (4, 2, 2, 2, 2), lambda x, w, b: F.conv_transpose3d(x, w, b, 2, groups=2), "ConvTranspose", strides=[2, 2, 2], group=2)
        line, box = random(4, 2, 3, 9) + torch.arange(54).reshape(2, 3, 9) / 4096, random(5, 1, 2, 4, 5, 4) + torch.arange(160).reshape(1, 2, 4, 5, 4) / 4096
        case("maxpool1d", [node("MaxPool", "x", kernel_shape=[3], strides=[2], pads=[1, 1])], lambda x: F.max_pool1d(x, 3, 2, 1), {"x": line})
        case("avgpool1d", [node("AveragePool", "x", kernel_shape=[3], strides=[2], pads=[1, 1], count_include_pad=1)], lambda x: F.avg_pool1d(x, 3, 2, 1), {"x": line})
        case("maxpool3d", [node("MaxPool", "x", kernel_shape=[2, 3, 2], strides=[2, 1, 2])], lambda x: F.max_pool3d(x, (2, 3, 2), (2, 1, 2)), {"x": box})
        for counted in (0, 1):
            case(f"avgpool3d_{counted}", [node("AveragePool", "x", kernel_shape=[3, 2, 2], strides=[2, 2, 1], pads=[1, 1, 0] * 2, count_include_pad=counted)],
                 lambda x: F.avg_pool3d(x, (3, 2, 2), (2, 2, 1), (1, 1, 0), False, bool(counted)), {"x": box})
        case("global_line", [node("GlobalAveragePool", "x", "a"), node("GlobalMaxPool", "x", "m"), node("Add", "a m")],
             lambda x: x.mean(2, keepdim=True) + x.amax(2, keepdim=True), {"x": line})

    def recurrent():
        steps, batch, inputs, hidden = 4, 2, 3, 5
        # PyTorch's order of the gates, by ONNX's numbers.
        orders = {"LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2], "RNN": [0]}
        flat = [node("Reshape", f"{k} flat", f"{k}.flat") for k in ("all", "last")] + [node("Concat", "all.flat last.flat", "y", axis=0)]

        def layer(name, op, directions, **attributes):
            gates = orders[op]
            rows = len(gates) * hidden
            weights = {"w": random(2, directions, rows, inputs) / 2, "r": random(3, directions, rows, hidden) / 2, "b": random(4, directions, 2 * rows) / 2}

            def run(x, h, w, r, b):
                turn = lambda v: torch.cat([v[g * hidden:(g + 1) * hidden] for g in gates])
                parts = [t for d in range(directions) for t in (turn(w[d]), turn(r[d]), turn(b[d, :rows]), turn(b[d, rows:]))]
                state = h if op != "LSTM" else [h, h * 0.5]
                function = {"LSTM": torch.lstm, "GRU": torch.gru, "RNN": torch.rnn_tanh}[op]
                y, last, *memory = function(x, state, parts, True, 1, 0.0, False, directions == 2, False)
                y = y.reshape(steps, batch, directions, hidden).transpose(1, 2)
                return torch.cat([y.flatten(), (memory[0] if memory else last).flatten()])

            data = {"x": random(1, steps, batch, inputs), "h": random(5, directions, batch, hidden)}
            direction = dict(direction="bidirectional") if directions == 2 else {}
            half = [node("Mul", "h half", "c")] if op == "LSTM" else []
            outputs = "all h_last last" if op == "LSTM" else "all last"
            call = node(op, "x w r b - h c" if op == "LSTM" else "x w r b - h", outputs, hidden_size=hidden, **direction, **attributes)
            case(name, half + [call] + flat, run, data, weights, opset=14, ints={"flat": [-1]}, floats={"half": torch.tensor(0.5)} if op == "LSTM" else {})

        for directions in (1, 2):
            layer(f"lstm_{directions}", "LSTM", directions)
            layer(f"gru_{directions}", "GRU", directions, linear_before_reset=1)
            layer(f"rnn_{directions}", "RNN", directions)

    def products():
        a, b = random(1, 2, 3, 4), random(2, 2, 5, 4)
        for name, equation, left, right in [
            ("attention", "bik,bjk->bij", a, b), ("transposed", "bik,bjk->jbi", a, b), ("outer", "i,j->ij", a[0, 0], b[0, :, 0]),
            ("summed", "bik,jk->bj", a, b[0]), ("scores", "...k,jk->...j", a, b[1]), ("inner", "bik,bjk->", a, b),
        ]:
            text = equation if name != "scores" else "bik,jk->bij"
            case(f"einsum_{name}", [node("Einsum", "a b", equation=equation)], lambda a, b: torch.einsum(text, a, b), {"a": left, "b": right})
        case("einsum_turned", [node("Einsum", "a", equation="ijk->kj")], lambda a: torch.einsum("ijk->kj", a), {"a": a})
        q, k, v = random(3, 1, 4, 3, 6), random(4, 1, 2, 5, 6), random(5, 1, 2, 5, 4)
        attend = lambda q, k, v, **more: F.scaled_dot_product_attention(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1), **more)
        case("attention", [node("Attention", "q k v")], attend, {"q": q, "k": k, "v": v}, opset=23)
        mask = random(6, 3, 5)
        case("attention_mask", [node("Attention", "q k v m", scale=0.5)], lambda q, k, v: attend(q, k, v, attn_mask=mask, scale=0.5),
             {"q": q, "k": k, "v": v}, opset=23, floats={"m": mask})
        square = {"q": random(7, 1, 2, 4, 6), "k": random(8, 1, 2, 4, 6), "v": random(9, 1, 2, 4, 6)}
        case("attention_causal", [node("Attention", "q k v", is_causal=1)], lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), square, opset=23)
        heads = lambda x: x.reshape(2, 3, 2, 4).transpose(1, 2)
        case("attention_heads", [node("Attention", "q k v", q_num_heads=2, kv_num_heads=2)],
             lambda q, k, v: F.scaled_dot_product_attention(heads(q), heads(k), heads(v)).transpose(1, 2).reshape(2, 3, 8),
             {"q": random(10, 2, 3, 8), "k": random(11, 2, 3, 8), "v": random(12, 2, 3, 8)}, opset=23)

        def turned(x):
            p = torch.arange(4)[:, None] / 10 ** torch.arange(3)[None]
            c, s, left, right = p.cos(), p.sin(), x[..., :3], x[..., 3:]
            return torch.cat([c * left - s * right, s * left + c * right], -1)

        angle = (torch.arange(4)[:, None] / 10 ** torch.arange(3)[None])[None]
        case("rotary", [node("RotaryEmbedding", "x c s")], turned, {"x": random(13, 1, 2, 4, 6)}, opset=23, floats={"c": angle.cos(), "s": angle.sin()})

    return [resampling, statistics, order, lines, recurrent, products]
