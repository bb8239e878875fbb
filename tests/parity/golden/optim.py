#!/usr/bin/env python3
"""Golden optimiser steps in float64: torch.optim's SGD and Adam, LARS written from its formula, and the teacher's EMA.

Three spans (a matrix, a vector, a convolution) in one arena, three steps; parameters and gradients are drawn by Philox,
so only results are committed: every 13th value of the matrix, which is large enough to be summed in pieces, and all of
the rest.

    optim.py            # writes optim.safetensors beside this file

LARS (You et al. 2017, arXiv 1708.03888) as NVIDIA's LARC and lightly's LARS have it: with w and g one span,
    ratio = trust |w| / (|g| + decay |w| + 1e-8), with clip: min(ratio / lr, 1)
    v = momentum v + ratio (g + decay w);  w = w - lr v
Excluded spans: ratio 1, decay 0.
"""
from pathlib import Path

import numpy as np
import torch

import twin

HERE = Path(__file__).resolve().parent
SHAPES = ((96, 120), (24,), (8, 4, 3, 3))
MATRIX, TEACHER = 96 * 120, 96 * 120 + 24                                  # the teacher is the first two spans
RATES, TAUS, SEED = (0.125, 0.0625, 0.25), (0.75, 0.96875, 0.5), 7         # exact in float32
MOMENTUM, DECAY, TRUST = 0.875, 2.0 ** -7, 2.0 ** -9
BETAS, EPSILON = (0.875, 0.96875), 2.0 ** -20


def draw(step):
    """Parameters (step 0) or the gradients of a step: normal, deviation 1 / (1 + step), then scaled per span."""
    n = sum(int(np.prod(s)) for s in SHAPES)
    x = twin.normal(n, 1 / (1 + step), SEED, step).astype(np.float64)
    return [torch.from_numpy(part.copy()) for part in np.split(x, np.cumsum([int(np.prod(s)) for s in SHAPES])[:-1])]


def flat(parts):
    return torch.cat([p.detach().reshape(-1) for p in parts]).numpy()


def sample(values):
    return np.concatenate([values[:MATRIX:13], values[MATRIX:]])


def run(step_once):
    """Three steps; returns what is kept of the parameters after each step [3, ...] and of the teacher's."""
    w, results, teachers = draw(0), [], []
    teacher = flat(w)[:TEACHER].copy()
    for p in w:
        p.requires_grad_(True)
    step = step_once(w)
    for i, (lr, tau) in enumerate(zip(RATES, TAUS)):
        for p, g in zip(w, draw(1 + i)):
            p.grad = g
        step(lr)
        now = flat(w)
        teacher = tau * teacher + (1 - tau) * now[:TEACHER]
        results.append(sample(now))
        teachers.append(sample(teacher))
    return np.stack(results), np.stack(teachers)


def torch_optimizer(kind, exclude, **settings):
    def start(w):
        plain = [p for p, shape in zip(w, SHAPES) if len(shape) == 1 and exclude]
        rest = [p for p, shape in zip(w, SHAPES) if not (len(shape) == 1 and exclude)]
        groups = [{"params": rest, "weight_decay": DECAY}] + ([{"params": plain, "weight_decay": 0}] if plain else [])
        optimizer = kind(groups, lr=1, **settings)

        def step(lr):
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
        return step
    return start


def lars(clip, exclude):
    def start(w):
        v = [torch.zeros_like(p) for p in w]

        def step(lr):
            with torch.no_grad():
                for p, m, shape in zip(w, v, SHAPES):
                    ratio, decay = 1.0, 0.0
                    if not (exclude and len(shape) == 1):
                        decay = DECAY
                        ratio = TRUST * p.norm() / (p.grad.norm() + decay * p.norm() + 1e-8)
                        ratio = min(ratio / lr, torch.tensor(1.0)) if clip else ratio
                    m.mul_(MOMENTUM).add_(ratio * (p.grad + decay * p))
                    p.sub_(lr * m)
        return step
    return start


def main():
    tensors = {}
    for name, start in (("sgd.all", torch_optimizer(torch.optim.SGD, False, momentum=MOMENTUM)),
                        ("sgd.exclude", torch_optimizer(torch.optim.SGD, True, momentum=MOMENTUM)),
                        ("adam.all", torch_optimizer(torch.optim.Adam, False, betas=BETAS, eps=EPSILON)),
                        ("adam.exclude", torch_optimizer(torch.optim.Adam, True, betas=BETAS, eps=EPSILON)),
                        ("lars.all", lars(False, False)), ("lars.exclude", lars(False, True)),
                        ("lars.clip", lars(True, True))):
        tensors[name + ".params"], tensors[name + ".teacher"] = run(start)
    twin.save(HERE / "optim.safetensors", tensors, {"seed": SEED, **twin.versions()})


if __name__ == "__main__":
    main()
