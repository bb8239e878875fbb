#!/usr/bin/env python3
"""Golden BYOL step in float64: loss, gradients, running statistics, one SGD update, the teacher's moving average.

The net is small and drawn by Philox (twin.py). A ReLU input near zero changes sign in float32, and then gradients differ
by percents in any framework, so batch norm's betas are moved until no input of a student's ReLU lies within MARGIN of
zero; the moved betas are committed. Beside the golden numbers stands the error that PyTorch's own bf16 autocast makes
with the same weights: that is the yardstick for ours.

    byol.py             # writes byol.safetensors beside this file
"""
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import twin

HERE = Path(__file__).resolve().parent
WIDTH, SIZE, BATCH, HEADS = 8, 32, 16, (32, 48, 16)
STUDENT_SEED, TEACHER_SEED, INPUT_SEED = 11, 12, 13
SCALE, LR, DECAY, TAU = 0.25, 0.0625, 2.0 ** -10, 0.875                    # exact in float32
NORM = {"gamma": (0.5, 0.25), "beta": (0.5, 0.25)}      # most ReLU inputs away from zero: bf16 flips few, and a wrong
MARGIN, STRIDE = 1.5e-4, 7                              # gradient stands out against its error


def view(number):
    """[BATCH, 3, SIZE, SIZE]: blocks of 8 x 8 pixels plus a quarter as much noise, so that pictures differ."""
    coarse = twin.normal(BATCH * 3 * 16, 1, INPUT_SEED, 2 * number).reshape(BATCH, 3, 4, 4)
    fine = twin.normal(BATCH * 3 * SIZE * SIZE, 0.25, INPUT_SEED, 2 * number + 1).reshape(BATCH, 3, SIZE, SIZE)
    return torch.from_numpy(coarse.repeat(SIZE // 4, 2).repeat(SIZE // 4, 3) + fine)


def nearest_shift(values, margin):
    """The smallest shift s with |v + s| > margin for all v: -s must lie in a gap of the sorted values."""
    v = np.sort(np.concatenate([values, [values.min() - 1, values.max() + 1]]))
    low, high = v[:-1] + margin, v[1:] - margin                            # allowed places for -s
    usable = low < high
    place = np.clip(0.0, low[usable], high[usable])
    return -place[np.abs(place).argmin()]


def move_betas(net, student, views):
    """Walk the net in order; at each ReLU shift the beta in front of it, channel by channel. Returns the betas."""
    betas = {}
    for i, node in enumerate(net.nodes):
        if not node.relu:
            continue
        kept = []
        values = {k: torch.from_numpy(v).double() for k, v in student.items()}
        for x in views:
            twin.walk(net.nodes[:i + 1], values, x.double(), seen=lambda j, y: kept.append(y) if j == i else None)
        inputs = torch.cat(kept).transpose(0, 1).reshape(node.out_c, -1).numpy()
        beta = student[node.bn_name + ".bias"]
        for c in range(node.out_c):
            before = beta[c]
            beta[c] += np.float32(nearest_shift(inputs[c], 1.2 * MARGIN))
            assert np.abs(inputs[c] + (float(beta[c]) - float(before))).min() > MARGIN
        betas[node.bn_name + ".bias"] = beta
    return betas


def losses(net, student, teacher, views, stats=None, margins=None):
    """Sum of both directions' mean 2 - 2 cos, and the mean deviation of the teacher's unit projections of view 1."""
    def seen(i, y):
        margins.append(y.detach().abs().min().item())

    p = [twin.walk(net.nodes, student, x, stats, seen if margins is not None else None)[-1] for x in views]
    with torch.no_grad():
        z = [twin.walk(net.nodes[:net.teacher], teacher, x)[-1] for x in views]
    if p[0].dtype != torch.float64:
        p, z = [x.float() for x in p], [x.float() for x in z]
    loss = sum((2 - 2 * F.cosine_similarity(a, b)).mean() for a, b in zip(p, reversed(z)))
    return loss, F.normalize(z[0]).std(0).mean()


def gradients(net, student, teacher, views, dtype, autocast=False, **more):
    """loss, spread, {name: gradient} of SCALE * loss."""
    leaves = {k: torch.from_numpy(v).to(dtype).requires_grad_(True) for k, v in student.items()}
    fixed = {k: torch.from_numpy(v).to(dtype) for k, v in teacher.items()}
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss, spread = losses(net, leaves, fixed, [x.to(dtype) for x in views], **more)
    (SCALE * loss).backward()
    return loss.item(), spread.item(), leaves


def error(a, b, floor=0.0):
    """Relative; a gradient that is zero but for rounding (a bias in front of a batch norm) counts as `floor` long."""
    a, b = a.double(), b.double()
    return ((a - b).norm() / max(b.norm(), floor)).item()


def total_error(got, want):
    return error(torch.cat([p.grad.double().reshape(-1) for p in got.values()]),
                 torch.cat([p.grad.reshape(-1) for p in want.values()]))


def sample(x):
    return x.detach().reshape(-1).numpy()[::STRIDE]


def main():
    torch.manual_seed(0)
    net = twin.build(18, WIDTH, "cifar", HEADS)
    student = twin.disturb(net, twin.init(net, STUDENT_SEED), STUDENT_SEED, **NORM)
    teacher = twin.disturb(net, twin.init(net, TEACHER_SEED), TEACHER_SEED, **NORM)
    names = [name for name, *_ in twin.parameters(net, net.teacher)]
    views = [view(0), view(1)]
    tensors = {"beta." + k: v for k, v in move_betas(net, student, views).items()}

    stats = {}
    for node in net.nodes:
        if node.bn:
            stats[node.bn_name + ".running_mean"] = torch.zeros(node.out_c, dtype=torch.float64)
            stats[node.bn_name + ".running_var"] = torch.ones(node.out_c, dtype=torch.float64)
    margins = []
    loss, spread, leaves = gradients(net, student, teacher, views, torch.float64, stats=stats, margins=margins)
    assert min(margins) > 1e-4, min(margins)
    tensors.update({"grad." + k: p.grad.numpy() for k, p in leaves.items()})
    tensors.update({"stat." + k: v.numpy() for k, v in stats.items()})

    decayed = [p for p in leaves.values() if p.dim() > 1]
    plain = [p for p in leaves.values() if p.dim() == 1]
    torch.optim.SGD([{"params": decayed, "weight_decay": DECAY}, {"params": plain}], lr=LR, momentum=0.875).step()
    tensors.update({"param." + k: sample(p) for k, p in leaves.items()})
    tensors.update({"teacher." + k: sample(TAU * torch.from_numpy(teacher[k]).double() + (1 - TAU) * leaves[k].detach())
                    for k in names})

    truth = leaves
    floor = 1e-3 * torch.cat([p.grad.reshape(-1) for p in truth.values()]).norm()
    worst = lambda got: max((error(p.grad, truth[k].grad, floor), k) for k, p in got.items())
    f32_loss, _, f32 = gradients(net, student, teacher, views, torch.float32)
    bf16_loss, _, bf16 = gradients(net, student, teacher, views, torch.float32, autocast=True)
    facts = {"loss": repr(loss), "spread": repr(spread), "relu_margin": f"{min(margins):.3g}",
             "fp32_error": f"{total_error(f32, truth):.3g}", "bf16_error": f"{total_error(bf16, truth):.6g}",
             "bf16_loss_error": f"{abs(bf16_loss - loss) / loss:.3g}", "fp32_loss_error": f"{abs(f32_loss - loss) / loss:.3g}",
             "bf16_worst": worst(bf16), "fp32_worst": worst(f32), **twin.versions()}
    print(facts)
    tensors.update({"bf16." + k: np.array([error(p.grad, truth[k].grad, floor)]) for k, p in bf16.items()})
    twin.save(HERE / "byol.safetensors", tensors, facts)


if __name__ == "__main__":
    main()
