"""Makes the checkpoints of the tests, and the values that PyTorch reads from them: python tests/make.py (torch, numpy)."""
from collections import OrderedDict
from pathlib import Path

import torch

here = Path(__file__).parent / "fixtures"
base = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 8 - 1
state = OrderedDict(
    {
        "conv.weight": base.clone(),
        "conv.transposed": base.t(),
        "conv.part": base[1:3, 2:5],
        "half": base[:2].to(torch.float16),
        "brain": base[:2].to(torch.bfloat16),
        "double": base[:1].to(torch.float64),
        "bn.num_batches_tracked": torch.tensor(7),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "flags": torch.tensor([True, False]),
    }
)
state["tied"] = state["conv.weight"]
optimiser = {"state": {0: {"step": 3, "momentum": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999)}]}
whole = {"epoch": 3, "model_state_dict": state, "optimizer": optimiser, "note": "x"}
torch.save(state, here / "state.pth")
torch.save(whole, here / "training.pth")
torch.save(whole, here / "before-1.6.pth", _use_new_zipfile_serialization=False)
parameters = {"w": torch.nn.Parameter(base.clone()), "b": torch.nn.Parameter(torch.ones(3), requires_grad=False)}
torch.save(parameters, here / "parameters.pth")
torch.save(torch.nn.Linear(3, 2), here / "module.pth")
torch.save({"s": torch.eye(3).to_sparse()}, here / "sparse.pth")
