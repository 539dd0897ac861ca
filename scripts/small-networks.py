#!/usr/bin/env python3
"""Trains small networks of modern operators on Fashion-MNIST and writes them as ONNX files.

    scripts/small-networks.py FASHION OUT [NAME ...]

Names: vit, convnext, lstm, mobilenet (squeeze and excite, hard swish; batch-norm is folded by the export), plain (ELU, no
batch-norm). They see the first 50 000 training images. OUT/held is a dataset with these as training images and the other
10 000 as test images: `slq compress OUT/vit.onnx --data OUT/held --bits 4 -o small.onnx`. FASHION has the four files of the
dataset. Needs torch, onnx and onnxscript; on one core the five take some 40 minutes.
"""

import gzip
import struct
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

SEEN, SIDE, BATCH = 50_000, 28, 128


def read(folder, part, rank):
    """The values of an IDX file behind its header of `rank` sizes."""
    data = gzip.open(folder / f"{part}-idx{rank}-ubyte.gz").read()
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank)


def write_held(folder, images, labels):
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", slice(SEEN)), ("t10k", slice(SEEN, None))):
        count = len(labels[part])
        header = struct.pack(">IIII", 0x803, count, SIDE, SIDE)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + images[part].tobytes())
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels[part].tobytes())


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.out(mixed.reshape(batch, tokens, width))


class Encoder(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.before, self.attention = nn.LayerNorm(width), Attention(width, 4)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x):
        x = x + self.attention(self.before(x))
        return x + self.mlp(x)


class Vit(nn.Module):
    def __init__(self, width=64, depth=4):
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, 50, width))
        self.encoders = nn.Sequential(*[Encoder(width) for _ in range(depth)])
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.encoders(x)[:, 0])


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of an image."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x):
        y = self.scale * self.mlp(self.depthwise(x).permute(0, 2, 3, 1))
        return x + y.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 24, 2, 2), ChannelNorm(24), ConvNeXtBlock(24), ConvNeXtBlock(24),
            ChannelNorm(24), nn.Conv2d(24, 48, 2, 2), ConvNeXtBlock(48), ConvNeXtBlock(48),
        )  # fmt: skip
        self.head = nn.Sequential(nn.LayerNorm(48), nn.Linear(48, 10))

    def forward(self, x):
        return self.head(self.body(x).mean([2, 3]))


class Lstm(nn.Module):
    """Reads an image row by row."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(SIDE, 96, 2, batch_first=True), nn.Linear(96, 10)

    def forward(self, x):
        return self.head(self.lstm(x.squeeze(1))[0][:, -1])


class SqueezeExcite(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(width, width // 4, 1), nn.Conv2d(width // 4, width, 1)

    def forward(self, x):
        return x * F.hardsigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))


class Bottleneck(nn.Module):
    def __init__(self, width, wide, out, stride):
        super().__init__()
        self.adds = width == out and stride == 1
        self.body = nn.Sequential(
            nn.Conv2d(width, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.Hardswish(),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.Hardswish(),
            SqueezeExcite(wide), nn.Conv2d(wide, out, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip

    def forward(self, x):
        return x + self.body(x) if self.adds else self.body(x)


def mobilenet():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish(),
        Bottleneck(16, 48, 16, 1), Bottleneck(16, 64, 32, 2), Bottleneck(32, 96, 32, 1),
        nn.Conv2d(32, 128, 1, bias=False), nn.BatchNorm2d(128), nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 128), nn.Hardswish(), nn.Dropout(0.1), nn.Linear(128, 10),
    )  # fmt: skip


def plain():
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ELU(), nn.Conv2d(32, 32, 3, padding=1), nn.ELU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ELU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(3136, 128), nn.ELU(), nn.Linear(128, 10),
    )  # fmt: skip


# Constructor, epochs, highest rate of AdamW.
NETWORKS = {
    "plain": (plain, 3, 1e-3),
    "vit": (Vit, 6, 1e-3),
    "mobilenet": (mobilenet, 5, 2e-3),
    "lstm": (Lstm, 6, 2e-3),
    "convnext": (ConvNeXt, 4, 2e-3),
}


def train(net, epochs, rate, images, labels):
    optimiser = torch.optim.AdamW(net.parameters(), rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, SEEN // BATCH * epochs)
    net.train()
    for _ in range(epochs):
        for batch in torch.randperm(SEEN).split(BATCH):
            if len(batch) < BATCH:
                continue
            loss = F.cross_entropy(net(images[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    net.eval()
    with torch.no_grad():
        right = [net(part).argmax(1) for part in images[SEEN:].split(500)]
    return (torch.cat(right) == labels[SEEN:]).float().mean().item()


def main():
    if len(sys.argv) < 3 or not set(sys.argv[3:]) <= set(NETWORKS):
        sys.exit(__doc__)
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    pixels = read(source, "train-images", 3).reshape(-1, 1, SIDE, SIDE)
    classes = read(source, "train-labels", 1)
    write_held(out / "held", pixels, classes)
    images, labels = torch.tensor(pixels).float() / 255, torch.tensor(classes).long()
    for name in sys.argv[3:] or NETWORKS:
        torch.manual_seed(0)
        build, epochs, rate = NETWORKS[name]
        net = build()
        accuracy = train(net, epochs, rate, images, labels)
        batch = ({0: torch.export.Dim("n")},)
        torch.onnx.export(
            net, (images[:2],), out / f"{name}.onnx", dynamic_shapes=batch, dynamo=True, external_data=False,
            input_names=["image"], output_names=["logits"],
        )  # fmt: skip
        weights = sum(p.numel() for p in net.parameters())
        print(f"{name}: {weights} weights, {100 * accuracy:.2f} % of the held-out images", flush=True)


if __name__ == "__main__":
    main()
