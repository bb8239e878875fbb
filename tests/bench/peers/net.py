"""The peers' network: a ResNet with torchvision's names, our stems and widths; weights in and out as safetensors."""
import copy
import json

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Block(nn.Module):
    def __init__(self, cin, channels, stride, bottleneck):
        super().__init__()
        cout = 4 * channels if bottleneck else channels
        shapes = [(cin, channels, 1, 1), (channels, channels, 3, stride), (channels, cout, 1, 1)] if bottleneck else \
                 [(cin, channels, 3, stride), (channels, channels, 3, 1)]
        for i, (a, b, kernel, step) in enumerate(shapes, 1):
            setattr(self, f"conv{i}", nn.Conv2d(a, b, kernel, step, kernel // 2, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(b))
        self.last, self.downsample = len(shapes), None
        if stride != 1 or cin != cout:
            self.downsample = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x):
        y = x
        for i in range(1, self.last + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            if i < self.last:
                y = F.relu(y)
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, depth, width, stem):
        super().__init__()
        cifar, bottleneck = stem == "cifar", depth == 50
        self.conv1 = nn.Conv2d(3, width, 3 if cifar else 7, 1 if cifar else 2, 1 if cifar else 3, bias=False)
        self.bn1, self.pool = nn.BatchNorm2d(width), None if cifar else nn.MaxPool2d(3, 2, 1)
        cin = width
        for stage, count in enumerate({18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}[depth]):
            blocks = []
            for b in range(count):
                blocks.append(Block(cin, width << stage, 2 if stage and not b else 1, bottleneck))
                cin = (width << stage) * (4 if bottleneck else 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.features = cin
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def blocks(self):
        return [block for i in range(1, 5) for block in getattr(self, f"layer{i}")]

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = x if self.pool is None else self.pool(x)
        for block in self.blocks():
            x = block(x)
        return x.mean((2, 3))


def calibrated(depth, width, stem, size, seed=0):
    """Random weights with the batch-norm statistics of noise, as a trained net's would fit its data."""
    torch.manual_seed(seed)
    model = ResNet(depth, width, stem)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for bn in norms:
        bn.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randn(16, 3, size, size))
    return model.eval()


def fold(model):
    """A copy with each batch norm folded into the convolution before it."""
    model = copy.deepcopy(model).eval()
    pairs = [(model, "conv1", "bn1")]
    for block in model.blocks():
        pairs += [(block, f"conv{i}", f"bn{i}") for i in range(1, block.last + 1)]
        pairs += [(block.downsample, "0", "1")] if block.downsample is not None else []
    for owner, conv, bn in pairs:
        setattr(owner, conv, fuse_conv_bn_eval(getattr(owner, conv), getattr(owner, bn)))
        setattr(owner, bn, nn.Identity())
    return model


def normalise(pixels):
    """uint8 [n, S, S, 3] to float [n, 3, S, S]."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - mean) / std


def save(model, path):
    header, data = {}, b""
    for name, value in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            raw = value.contiguous().numpy().tobytes()
            header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [len(data), len(data) + len(raw)]}
            data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + data)


def load(model, path):
    """Fills the model from a float32 safetensors file."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = torch.from_numpy(np.frombuffer(data[begin:end], np.float32).reshape(entry["shape"]).copy())
    model.load_state_dict(tensors, strict=False)
    return model.eval()
