"""Makes tests/fixtures/torch_*.onnx with PyTorch's exporters (needs torch, and onnxscript for the newer one)."""

import pathlib

import torch
from torch import nn

HERE = pathlib.Path(__file__).parent / "fixtures"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.depth = nn.Conv2d(4, 4, 3, groups=4)
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        x = torch.relu(self.bn(self.conv(x)))
        x = nn.functional.relu6(self.depth(x))
        x = nn.functional.adaptive_avg_pool2d(x, 2)
        return self.fc(x.reshape(x.size(0), -1))


torch.manual_seed(3)
net = Net().eval()
x = torch.zeros(2, 2, 6, 6)
for opset in (17, 20):
    torch.onnx.export(net, (x,), HERE / f"torch_script_{opset}.onnx", opset_version=opset, dynamo=False,
                      input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "N"}, "y": {0: "N"}})
for opset in (18, 20):
    program = torch.onnx.export(net, (x,), opset_version=opset, dynamo=True, input_names=["x"], output_names=["y"],
                                dynamic_shapes={"x": {0: torch.export.Dim("N")}})
    program.save(HERE / f"torch_dynamo_{opset}.onnx", external_data=False)
