#!/usr/bin/env python3
"""Golden embeddings: torchvision's ResNets in eval mode on 100 pictures of tests/data/cifar10-sample.

Weights are drawn by Philox (twin.py); gammas at the ends of residual branches are a quarter of the others, since trained
nets have them small, and with equal ones a random ResNet-50 magnifies rounding until bf16 means nothing (PyTorch's own
then reaches a cosine of .98). Beside each case stands how far PyTorch's bf16 autocast is off. Running statistics are those of the pictures themselves, rounded to float16 and
committed, since a random net without them explodes or dies with depth. Pictures larger than 32 pixels are the same
pixels repeated, so that no resize is involved. Needs torch, torchvision, Pillow; takes a minute.

    embed.py            # writes embed.safetensors beside this file
"""
import hashlib
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import nn

import twin

HERE = Path(__file__).resolve().parent
CASES = (("resnet18", "cifar", 32), ("resnet34", "cifar", 32), ("resnet50", "cifar", 32), ("resnet18", "imagenet", 224),
         ("resnet50", "imagenet", 96))
SEED = 20200613


def pictures():
    """uint8 [100, 32, 32, 3]: the first ten by name of each class, classes by name."""
    folder = HERE.parents[1] / "data" / "cifar10-sample"
    files = [f for group in sorted(folder.iterdir()) if group.is_dir() for f in sorted(group.iterdir())[:10]]
    return np.stack([np.asarray(Image.open(f).convert("RGB")) for f in files])


def network(arch, stem, seed):
    """torchvision's network without its classifier, with the weights that lk_net_init and the test draw."""
    model = getattr(torchvision.models, arch)(weights=None)
    model.fc = nn.Identity()
    if stem == "cifar":
        model.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        model.maxpool = nn.Identity()
    net = twin.build(int(arch[6:]), 64, stem)
    values = twin.disturb(net, twin.init(net, seed), seed, last=0.25)
    missing = model.load_state_dict({k: torch.from_numpy(v) for k, v in values.items()}, strict=False)
    assert not missing.unexpected_keys
    assert all("running_" in k or "num_batches_tracked" in k for k in missing.missing_keys)
    return model


def vectors(model, x):
    """Unit vectors in float64."""
    y = torch.cat([model(part) for part in x.split(25)]).double()
    return y / y.norm(dim=1, keepdim=True)


@torch.no_grad()
def golden(arch, stem, size, pixels, seed):
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    x = x.repeat_interleave(size // 32, 2).repeat_interleave(size // 32, 3).float() / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x = (x - mean) / std
    model = network(arch, stem, seed)
    norms = {name: m for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    for m in norms.values():
        m.momentum = None                                                  # the average over the passes below
    for part in x.split(25):
        model.train()(part)
    stats = {}
    for name, m in norms.items():
        for kind in ("running_mean", "running_var"):
            rounded = getattr(m, kind).half()
            assert rounded.isfinite().all() and (kind == "running_mean" or rounded.min() > 1e-4)
            getattr(m, kind).copy_(rounded.float())
            stats[f"{name}.{kind}"] = rounded.numpy()
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        half = vectors(model, x)
    y = vectors(model.double(), x.double())
    spread, cosine = (y - y.mean(0)).norm(), (y * half).sum(1).min().item()
    print(f"{arch} {stem} {size}: deviation from the mean vector {spread / 10:.3f}, cosine of bf16 {cosine:.6f}")
    return stats, y.numpy(), {"bf16_cosine": f"{cosine:.6f}", "bf16_error": f"{(y - half).norm() / spread:.4g}"}


def main():
    pixels, tensors, facts = pictures(), {}, {}
    for arch, stem, size in CASES:
        stats, y, bf16 = golden(arch, stem, size, pixels, SEED)
        for name, value in stats.items():
            tensors[f"{arch}.{stem}.{name}"] = value
        tensors[f"{arch}.{stem}.embedding"] = y.astype(np.float16)
        facts.update({f"{arch}.{stem}.{key}": value for key, value in bf16.items()})
    twin.save(HERE / "embed.safetensors", tensors,
              {"seed": SEED, **facts, "pixels_sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
               "torchvision": torchvision.__version__.split("+")[0], **twin.versions()})


if __name__ == "__main__":
    main()
