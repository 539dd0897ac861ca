"""A LeNet of one's own in PyTorch, compressed to an ONNX file and put back into the module. Needs torch, onnx, onnxscript.

`effort="quick"` takes a quarter of the training, so that the compression takes some 15 seconds on two cores; without it the job
takes four times as long and measures better.
"""

import time

import torch
from torch import nn

import slq

torch.manual_seed(0)
x_train, y_train, x_test, y_test = slq.load_data("mnist-10k")
net = nn.Sequential(
    *(nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2)),
    *(nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10)),
)
optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
pixels, labels = torch.from_numpy(x_train[:, None] / 255.0).float(), torch.from_numpy(y_train)
for _ in range(2):
    for batch in torch.randperm(len(pixels)).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(pixels[batch]), labels[batch]).backward()
        optimizer.step()

began = time.perf_counter()
model = slq.from_torch(net, torch.zeros(1, 1, 28, 28))
done = slq.compress(model, (x_train, y_train, x_test, y_test), bits=4, scale=1 / 255, effort="quick")
print(done)
print("lenet-4bit.onnx:", done.save("lenet-4bit.onnx"), "bytes, instead of", done.size.dense)
slq.into_torch(net, done.model)
print(f"{time.perf_counter() - began:.1f} s from the module to the file and back")
with torch.no_grad():
    same = net(torch.from_numpy(x_test[:, None] / 255.0).float()).argmax(1) == torch.from_numpy(y_test)
print(f"the module with shared weights: top-1 {same.float().mean():.4f}")
