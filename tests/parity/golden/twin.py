"""The Python twin of core/base/rng.c, core/model/resnet.c and lk_net_init: the same networks with the same weights.

Goldens then need only outputs to be committed. Written from the headers, in numpy and PyTorch; nothing here is fast.
"""
import json
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

RNG_WEIGHTS = 4


# ------------------------------------------------------------------------------------------------ random numbers

def philox(key, c0, c1, c2, c3):
    """Philox4x32-10 on arrays of uint64 that hold 32-bit words; returns four such arrays."""
    mask, low = np.uint64(0xFFFFFFFF), lambda x: x & np.uint64(0xFFFFFFFF)
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    c = [np.asarray(x, np.uint64) for x in (c0, c1, c2, c3)]
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), low(p1), (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), low(p0)]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return [x & mask for x in c]


def words(seed, n, tensor):
    """The first n words of a weight stream, rounded up to whole blocks: [blocks, 4]."""
    block = np.arange((n + 3) // 4, dtype=np.uint64)
    zero = np.zeros_like(block)
    stream = zero + np.uint64(RNG_WEIGHTS << 24 | tensor & 0xFFFFFF)
    return np.stack(philox(seed, block & np.uint64(0xFFFFFFFF), block >> np.uint64(32), stream, zero), 1)


def normal(n, std, seed, tensor):
    """lk_rng_normal."""
    w = words(seed, n, tensor).astype(np.float64)
    r = np.sqrt(-2 * np.log((w[:, 0::2] + 1) / 2 ** 32))
    angle = 2 * np.pi * (w[:, 1::2] / 2 ** 32)
    x = np.stack((r * np.cos(angle), r * np.sin(angle)), 2).reshape(-1)[:n]
    return (x * np.float64(np.float32(std))).astype(np.float32)


def uniform(n, bound, seed, tensor):
    """lk_rng_uniform."""
    u = (words(seed, n, tensor) >> np.uint64(8)).astype(np.float32) * np.float32(2 ** -24)
    return ((np.float32(2) * u - np.float32(1)) * np.float32(bound)).reshape(-1)[:n]


# ------------------------------------------------------------------------------------------------------ networks

def build(depth, width, stem, heads=None):
    """Nodes in lk_net_build's order; heads = (projector hidden, predictor hidden, output), all with batch norm.

    A node reads edge `input` (0 is the picture, i + 1 is node i's output), and adds edge `residual` before its ReLU.
    """
    nodes = []

    def push(kind, source, channels=0, kernel=1, stride=1, relu=False, residual=None, bn=True, name="", bn_name=""):
        in_c = 3 if source == 0 else nodes[source - 1].out_c
        nodes.append(SimpleNamespace(kind=kind, input=source, residual=residual, in_c=in_c, out_c=channels or in_c,
                                     kernel=kernel, stride=stride, pad=kernel // 2, bn=bn, relu=relu, name=name,
                                     bn_name=bn_name))
        return len(nodes)

    def conv(source, channels, kernel, stride, relu, prefix, number, residual=None):
        return push("conv", source, channels, kernel, stride, relu, residual, True, f"{prefix}conv{number}",
                    f"{prefix}bn{number}")

    cifar = stem == "cifar"
    x = conv(0, width, 3 if cifar else 7, 1 if cifar else 2, True, "", 1)
    if not cifar:
        x = push("max_pool", x, kernel=3, stride=2, bn=False, name="maxpool")
    for stage, blocks in enumerate({18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}[depth]):
        channels = width << stage
        out = 4 * channels if depth == 50 else channels
        for block in range(blocks):
            prefix, stride = f"layer{stage + 1}.{block}.", 2 if stage and not block else 1
            h = conv(x, channels, 1 if depth == 50 else 3, 1 if depth == 50 else stride, True, prefix, 1)
            if depth == 50:
                h = conv(h, channels, 3, stride, True, prefix, 2)
            shortcut = x
            if stride != 1 or nodes[x - 1].out_c != out:
                shortcut = push("conv", x, out, 1, stride, name=prefix + "downsample.0", bn_name=prefix + "downsample.1")
            x = conv(h, out, 1 if depth == 50 else 3, 1, True, prefix, 3 if depth == 50 else 2, shortcut)
    x = push("avg_pool", x, bn=False, name="avgpool")
    net = SimpleNamespace(nodes=nodes, backbone=len(nodes), teacher=len(nodes))
    if heads:
        for head, hidden in (("projector", heads[0]), ("predictor", heads[1])):
            x = push("linear", x, hidden, relu=True, name=head + ".0", bn_name=head + ".1")
            x = push("linear", x, heads[2], bn=False, name=head + ".3")
            net.teacher = len(nodes) if head == "projector" else net.teacher
    return net


def parameters(net, n_nodes=None):
    """(name, shape, node, role) of every parameter in arena order; its number is its place in this list."""
    found = []
    for node in net.nodes[:n_nodes]:
        if node.kind in ("conv", "linear"):
            shape = (node.out_c, node.in_c) + ((node.kernel, node.kernel) if node.kind == "conv" else ())
            found.append((node.name + ".weight", shape, node, "weight"))
            if node.bn:
                found.append((node.bn_name + ".weight", (node.out_c,), node, "gamma"))
                found.append((node.bn_name + ".bias", (node.out_c,), node, "beta"))
            else:
                found.append((node.name + ".bias", (node.out_c,), node, "bias"))
    return found


def init(net, seed):
    """lk_net_init: {name: float32 array} of the parameters."""
    values = {}
    for number, (name, shape, node, role) in enumerate(parameters(net)):
        n = int(np.prod(shape))
        if role == "gamma" or role == "beta":
            x = np.full(n, 1 if role == "gamma" else 0, np.float32)
        elif node.kind == "conv":
            x = normal(n, np.sqrt(2 / (node.out_c * node.kernel ** 2)), seed, number)
        else:
            x = uniform(n, 1 / np.sqrt(node.in_c), seed, number)
        values[name] = x.reshape(shape)
    return values


def disturb(net, values, seed, gamma=(1, 0.5), beta=(0, 0.1), last=1):
    """What the tests do after lk_net_init: gamma = g + uniform(u), beta = b + normal(n), by the tensors' own numbers.

    Gammas that end a residual branch are `last` times that.
    """
    for number, (name, shape, node, role) in enumerate(parameters(net)):
        if role == "gamma":
            scale = np.float32(last if node.residual is not None else 1)
            values[name] = scale * (np.float32(gamma[0]) + uniform(shape[0], gamma[1], seed, number))
        elif role == "beta":
            values[name] = np.float32(beta[0]) + normal(shape[0], beta[1], seed, number)
    return values


def walk(nodes, values, x, stats=None, seen=None):
    """Training forward over nodes: batch statistics; running ones (momentum .1) are updated in stats when given.

    seen(node index, ReLU input) is called before every ReLU.
    """
    edges = [x]
    for i, node in enumerate(nodes):
        y = edges[node.input]
        if node.kind == "conv":
            y = F.conv2d(y, values[node.name + ".weight"], None, node.stride, node.pad)
        elif node.kind == "linear":
            y = F.linear(y, values[node.name + ".weight"], None if node.bn else values[node.name + ".bias"])
        elif node.kind == "max_pool":
            y = F.max_pool2d(y, 3, 2, 1)
        else:
            y = y.mean((2, 3))
        if node.bn:
            mean, var = (stats[f"{node.bn_name}.running_{k}"] for k in ("mean", "var")) if stats else (None, None)
            y = F.batch_norm(y, mean, var, values[node.bn_name + ".weight"], values[node.bn_name + ".bias"], True, 0.1, 1e-5)
        if node.residual is not None:
            y = y + edges[node.residual]
        if node.relu:
            if seen:
                seen(i, y)
            y = F.relu(y)
        edges.append(y)
    return edges


# --------------------------------------------------------------------------------------------------------- files

def save(path, tensors, metadata):
    """A safetensors file of numpy arrays (float64 becomes F32, float16 stays)."""
    header, data = {"__metadata__": {k: str(v) for k, v in metadata.items()}}, b""
    for name, value in tensors.items():
        value = np.ascontiguousarray(value, np.float16 if value.dtype == np.float16 else np.float32)
        kind = {np.float16: "F16", np.float32: "F32"}[value.dtype.type]
        header[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [len(data), len(data) + value.nbytes]}
        data += value.tobytes()
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + data)
    print(f"{path}: {len(data) + len(text) + 8} bytes")


def versions():
    return {"torch": torch.__version__.split("+")[0], "numpy": np.__version__}
