"""Writes the fixtures: a file as PyTorch users have it, with the values that tests/files.rs expects."""

import pathlib
import struct
import sys

import numpy as np
from safetensors.numpy import save_file

folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "fixtures")
folder.mkdir(exist_ok=True)
values = np.array([[0.5, -1.25, 3.0], [65504.0, -0.0, 1e-7]])
save_file(
    {
        "half": values.astype(np.float16),
        "double": values,
        "single": values.astype(np.float32),
        "steps": np.array(7, np.int64),
        "flags": np.array([True, False]),
        "small": np.array([-1, 2], np.int8),
    },
    folder / "plain.safetensors",
    metadata={"format": "pt"},
)
# numpy has no bfloat16: written by hand.
header = b'{"b":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
data = struct.pack("<HH", 0x3FC0, 0xC000)  # 1.5, -2
(folder / "bfloat16.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)
