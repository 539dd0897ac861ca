"""Writes train/test nets and solvers of AlexNet, VGG-16 and GoogLeNet as Caffe's model zoo trains them.

python make-caffe-nets.py FOLDER [--images images.lmdb] [--classes 1000] [--batch 16] [--iterations 10] [--nets alexnet,vgg16,googlenet]

The layers follow the papers and the settings that Caffe's zoo is known by: AlexNet with groups and LRN in front of the
pools' successors, VGG-16 configuration D, GoogLeNet with its two auxiliary classifiers (loss weight 0.3 each).
"""
import argparse, pathlib


class Net:
    def __init__(self, name, images, batch, crop):
        self.lines = [f'name: "{name}"']
        for phase, part in (("TRAIN", "train"), ("TEST", "test")):
            mirror = "true" if phase == "TRAIN" else "false"
            self.add("images", "Data", [], ["data", "label"], f"include {{ phase: {phase} }}",
                     f"transform_param {{ mirror: {mirror} crop_size: {crop} mean_value: 104 mean_value: 117 mean_value: 123 }}",
                     f'data_param {{ source: "{images}/{part}" backend: LMDB batch_size: {batch} }}')

    def add(self, name, kind, bottoms, tops, *settings):
        ends = [f'bottom: "{b}"' for b in bottoms] + [f'top: "{t}"' for t in tops]
        body = "\n".join("  " + s for s in settings)
        self.lines.append(f'layer {{\n  name: "{name}" type: "{kind}" ' + " ".join(ends) + (f"\n{body}" if body else "") + "\n}")
        return tops[0]

    RATES = "param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }"

    @staticmethod
    def fillers(weight, bias):
        kind = f'type: "gaussian" std: {weight}' if weight else 'type: "xavier"'
        return f'weight_filler {{ {kind} }} bias_filler {{ type: "constant" value: {bias} }}'

    def conv(self, name, bottom, count, kernel, pad=0, stride=1, group=1, std=0, bias=0.2):
        more = (f" pad: {pad}" if pad else "") + (f" stride: {stride}" if stride > 1 else "") + (f" group: {group}" if group > 1 else "")
        self.add(name, "Convolution", [bottom], [name], self.RATES,
                 f"convolution_param {{ num_output: {count} kernel_size: {kernel}{more} {self.fillers(std, bias)} }}")
        return self.relu(name)

    def relu(self, name):
        stem = name if "/" in name else name.replace("conv", "").replace("fc", "")
        return self.add(f"{stem}/relu" if "/" in name else f"relu{stem}", "ReLU", [name], [name])

    def fc(self, name, bottom, count, std=0, bias=0.1):
        return self.add(name, "InnerProduct", [bottom], [name], self.RATES,
                        f"inner_product_param {{ num_output: {count} {self.fillers(std, bias)} }}")

    def pool(self, name, bottom, kind="MAX", kernel=3, stride=2, pad=0):
        more = f" pad: {pad}" if pad else ""
        return self.add(name, "Pooling", [bottom], [name], f"pooling_param {{ pool: {kind} kernel_size: {kernel} stride: {stride}{more} }}")

    def lrn(self, name, bottom):
        return self.add(name, "LRN", [bottom], [name], "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }")

    def dropout(self, name, blob, ratio):
        return self.add(name, "Dropout", [blob], [blob], f"dropout_param {{ dropout_ratio: {ratio} }}")

    def loss(self, name, bottom, weight=1):
        more = [] if weight == 1 else [f"loss_weight: {weight}"]
        self.add(name, "SoftmaxWithLoss", [bottom, "label"], [name], *more)

    def accuracy(self, name, bottom, k=1):
        self.add(name, "Accuracy", [bottom, "label"], [name], "include { phase: TEST }", f"accuracy_param {{ top_k: {k} }}")


def alexnet(net, classes):
    x = net.lrn("norm1", net.conv("conv1", "data", 96, 11, stride=4, std=0.01, bias=0))
    x = net.conv("conv2", net.pool("pool1", x), 256, 5, pad=2, group=2, std=0.01, bias=0.1)
    x = net.conv("conv3", net.pool("pool2", net.lrn("norm2", x)), 384, 3, pad=1, std=0.01, bias=0)
    x = net.conv("conv4", x, 384, 3, pad=1, group=2, std=0.01, bias=0.1)
    x = net.pool("pool5", net.conv("conv5", x, 256, 3, pad=1, group=2, std=0.01, bias=0.1))
    for name in ("fc6", "fc7"):
        x = net.dropout("drop" + name[2:], net.relu(net.fc(name, x, 4096, std=0.005)), 0.5)
    x = net.fc("fc8", x, classes, std=0.01, bias=0)
    net.accuracy("accuracy", x)
    net.loss("loss", x)


def vgg16(net, classes):
    x = "data"
    for block, (count, repeats) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)], 1):
        for i in range(1, repeats + 1):
            x = net.conv(f"conv{block}_{i}", x, count, 3, pad=1, bias=0)
        x = net.pool(f"pool{block}", x, kernel=2)
    for name in ("fc6", "fc7"):
        x = net.dropout("drop" + name[2:], net.relu(net.fc(name, x, 4096)), 0.5)
    x = net.fc("fc8", x, classes, bias=0)
    net.accuracy("accuracy", x)
    net.loss("loss", x)


INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64), "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64), "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128), "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
}


def googlenet(net, classes):
    def inception(which, x):
        at, (a, b, c, d, e, f) = f"inception_{which}", INCEPTION[which]
        parts = [
            net.conv(f"{at}/1x1", x, a, 1),
            net.conv(f"{at}/3x3", net.conv(f"{at}/3x3_reduce", x, b, 1), c, 3, pad=1),
            net.conv(f"{at}/5x5", net.conv(f"{at}/5x5_reduce", x, d, 1), e, 5, pad=2),
            net.conv(f"{at}/pool_proj", net.pool(f"{at}/pool", x, stride=1, pad=1), f, 1),
        ]
        return net.add(f"{at}/output", "Concat", parts, [f"{at}/output"])

    def auxiliary(which, x):
        x = net.conv(f"{which}/conv", net.pool(f"{which}/ave_pool", x, "AVE", 5, 3), 128, 1)
        x = net.dropout(f"{which}/drop_fc", net.relu(net.fc(f"{which}/fc", x, 1024, bias=0.2)), 0.7)
        net.loss(f"{which}/loss", net.fc(f"{which}/classifier", x, classes, bias=0), 0.3)

    x = net.pool("pool1/3x3_s2", net.conv("conv1/7x7_s2", "data", 64, 7, pad=3, stride=2))
    x = net.conv("conv2/3x3_reduce", net.lrn("pool1/norm1", x), 64, 1)
    x = net.pool("pool2/3x3_s2", net.lrn("conv2/norm2", net.conv("conv2/3x3", x, 192, 3, pad=1)))
    x = net.pool("pool3/3x3_s2", inception("3b", inception("3a", x)))
    x = inception("4a", x)
    auxiliary("loss1", x)
    x = inception("4d", inception("4c", inception("4b", x)))
    auxiliary("loss2", x)
    x = net.pool("pool4/3x3_s2", inception("4e", x))
    x = net.pool("pool5/7x7_s1", inception("5b", inception("5a", x)), "AVE", 7, 1)
    x = net.fc("loss3/classifier", net.dropout("pool5/drop_7x7_s1", x, 0.4), classes, bias=0)
    net.loss("loss3/loss3", x)
    net.accuracy("loss3/top-1", x)
    net.accuracy("loss3/top-5", x, 5)


# Crop, base rate, weight decay, and the policy of the published training.
NETS = {
    "alexnet": (alexnet, "AlexNet", 227, 0.01, 0.0005, 'lr_policy: "step" gamma: 0.1 stepsize: 100000'),
    "vgg16": (vgg16, "VGG-16", 224, 0.01, 0.0005, 'lr_policy: "step" gamma: 0.1 stepsize: 100000'),
    "googlenet": (googlenet, "GoogLeNet", 224, 0.01, 0.0002, 'lr_policy: "poly" power: 0.5'),
}

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("folder", type=pathlib.Path)
arguments.add_argument("--images", default="images.lmdb")
arguments.add_argument("--classes", type=int, default=1000)
arguments.add_argument("--batch", type=int, default=16)
arguments.add_argument("--iterations", type=int, default=10)
arguments.add_argument("--nets", default=",".join(NETS))
given = arguments.parse_args()
given.folder.mkdir(parents=True, exist_ok=True)
for key in given.nets.split(","):
    build, name, crop, rate, decay, policy = NETS[key]
    net = Net(name, given.images, given.batch, crop)
    build(net, given.classes)
    (given.folder / f"{key}_train_val.prototxt").write_text("\n".join(net.lines) + "\n")
    (given.folder / f"{key}_solver.prototxt").write_text(
        f'net: "{key}_train_val.prototxt"\ntest_iter: 2\ntest_interval: 1000\nbase_lr: {rate}\n{policy}\n'
        f"momentum: 0.9\nweight_decay: {decay}\nmax_iter: {given.iterations}\n")
