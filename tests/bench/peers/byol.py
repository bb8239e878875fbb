#!/usr/bin/env python3
"""BYOL pretraining in PyTorch on a CPU at the trainer's default recipe: pictures a second of whole epochs.

    byol.py --data cifar/ --epochs 2 --batch 128 --width 32 --precision fp32 --threads 2

--data is a folder of CIFAR-10 .bin files. Written as fast as PyTorch's documented means allow: the data set is one uint8
tensor, views are made by batched tensor code, convolutions run channels_last, bf16 comes from autocast, the optimiser is
fused and the moving average one multi-tensor call. The views' arithmetic is the trainer's (crop, flip, jitter in four
orders, grey), though not its random numbers. Prints one JSON object an epoch.
"""
import argparse
import copy
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import net

GREY = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)


def grey(x):
    return (x * GREY).sum(1, keepdim=True)


def brightness(x, f):
    return (x * f[:, 0]).clamp(0, 1)


def contrast(x, f):
    mean = grey(x).mean((2, 3), keepdim=True)
    return (mean + (x - mean) * f[:, 1]).clamp(0, 1)


def saturation(x, f):
    level = grey(x)
    return (level + (x - level) * f[:, 2]).clamp(0, 1)


def hue(x, f):
    """HSV and back without branches: a channel is value - chroma * clamp(min(k, 4 - k)), k its place on the wheel."""
    r, g, b = x.split(1, 1)
    high = x.amax(1, keepdim=True)
    chroma = high - x.amin(1, keepdim=True)
    safe = chroma.clamp_min(1e-8)
    sixth = torch.where(high == r, (g - b) / safe, torch.where(high == g, (b - r) / safe + 2, (r - g) / safe + 4))
    k = (torch.tensor([5.0, 3.0, 1.0]).view(1, 3, 1, 1) + sixth + 6 * f[:, 3]) % 6
    return high - chroma * torch.minimum(k, 4 - k).clamp(0, 1)


ORDERS = ((brightness, contrast, saturation, hue), (contrast, hue, brightness, saturation),
          (saturation, brightness, hue, contrast), (hue, saturation, contrast, brightness))


def crop(x, u):
    """Area .08 to 1, ratio 3/4 to 4/3, ten tries; flip; bilinear to the whole size."""
    n, size = len(x), x.shape[-1]
    area = (0.08 + 0.92 * u[:, :10]) * size * size
    ratio = ((2 * u[:, 10:20] - 1) * math.log(4 / 3)).exp()
    w, h = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (w <= size) & (h <= size)
    first, any_fits = fits.int().argmax(1, keepdim=True), fits.any(1, keepdim=True)
    w, h = (torch.where(any_fits, v.gather(1, first), size) for v in (w, h))
    left, top = (u[:, 20:21] * (size - w + 1)).floor(), (u[:, 21:22] * (size - h + 1)).floor()
    t = (torch.arange(size) + 0.5) / size
    sx = (left + torch.where(u[:, 22:23] < 0.5, 1 - t, t) * w - 0.5).clamp(left, left + w - 1)
    sy = (top + t * h - 0.5).clamp(top, top + h - 1)
    gx, gy = (2 * sx + 1) / size - 1, (2 * sy + 1) / size - 1
    grid = torch.stack((gx[:, None, :].expand(n, size, size), gy[:, :, None].expand(n, size, size)), -1)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def views(images, index):
    u = torch.rand(len(index), 32)
    x = crop(images[index].float() / 255, u)
    span = torch.tensor([0.4, 0.4, 0.4, 0.1])
    f = torch.tensor([1.0, 1.0, 1.0, 0.0]) + (2 * u[:, 23:27] - 1) * span * (u[:, 27:28] < 0.8)
    parts = []
    for i, (part, factors) in enumerate(zip(x.chunk(8), f.view(-1, 4, 1, 1, 1).chunk(8))):
        for operation in ORDERS[(i + i // 4) % 4]:
            part = operation(part, factors)
        parts.append(part)
    x = torch.cat(parts)
    x = torch.where(u[:, 28:29].view(-1, 1, 1, 1) < 0.2, grey(x), x)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (net.MEAN, net.STD))
    return ((x - mean) / std).contiguous(memory_format=torch.channels_last)


def mlp(cin, hidden, cout):
    return nn.Sequential(nn.Linear(cin, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, cout))


def main():
    p = argparse.ArgumentParser(description="BYOL in PyTorch on a CPU: speed of whole epochs")
    p.add_argument("--data", required=True)
    p.add_argument("--epochs", type=int, default=2)
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--width", type=int, default=32)
    p.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    rows = np.concatenate([np.fromfile(f, np.uint8).reshape(-1, 3073) for f in sorted(Path(args.data).glob("data_*.bin"))])
    images = torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32).copy())

    backbone = net.ResNet(18, args.width, "cifar")
    student = nn.Sequential(backbone, mlp(backbone.features, 1024, 256)).to(memory_format=torch.channels_last)
    predictor, teacher = mlp(256, 1024, 256), copy.deepcopy(student).requires_grad_(False)
    pairs = list(teacher.parameters()), list(student.parameters())
    learned = [*student.parameters(), *predictor.parameters()]
    rate = 0.06 * args.batch / 128
    optimizer = torch.optim.SGD(learned, lr=rate, momentum=0.9, weight_decay=5e-4, fused=True)
    steps = len(images) // args.batch
    for epoch in range(1, args.epochs + 1):
        began, order, total = time.perf_counter(), torch.randperm(len(images)), 0.0
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
            both = views(images, order[step * args.batch:(step + 1) * args.batch].repeat(2)).chunk(2)
            with torch.autocast("cpu", torch.bfloat16, enabled=args.precision == "bf16"):
                with torch.no_grad():
                    z = [teacher(x).float() for x in both]
                guess = [predictor(student(x)).float() for x in both]
            loss = sum(2 - 2 * F.cosine_similarity(a, b).mean() for a, b in zip(guess, reversed(z)))
            (0.25 * loss).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            with torch.no_grad():
                torch._foreach_lerp_(*pairs, 0.01)
            total += loss.item()
        seconds = time.perf_counter() - began
        print(json.dumps({"kind": "epoch", "epoch": epoch, "loss": total / steps, "seconds": seconds,
                          "images_per_second": steps * args.batch / seconds, "version": torch.__version__}), flush=True)


if __name__ == "__main__":
    main()
