#!/usr/bin/env python3
"""Pictures a second of PyTorch (eager, channels_last) or ONNX Runtime, batch norm folded in both; or the model to time.

    embed.py make  --depth 18 --width 64 --stem cifar --size 32 --model M.safetensors --pixels P.u8 --count 64
    embed.py torch --precision fp32 ... --batches 1,8,32 --seconds 2 --threads 2 --vectors V.f32
    embed.py ort   ...

From normalised float pictures to unit vectors. One JSON object a batch, as bench_engine prints them.
"""
import argparse
import json
import os
import statistics
import tempfile
import time

import numpy as np
import torch
import torch.nn.functional as F

import net


def torch_peer(args, folded):
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[args.precision]
    model = folded.to(dtype).to(memory_format=torch.channels_last)

    def embed(x):
        with torch.inference_mode():
            return F.normalize(model(x).float()).numpy()
    return embed, lambda x: x.to(dtype).contiguous(memory_format=torch.channels_last), torch.__version__


def write_onnx(model, path, size):
    """The folded network operator by operator, so that no exporter's taste is in the comparison."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    nodes, constants = [], []

    def node(kind, inputs, **attributes):
        nodes.append(helper.make_node(kind, inputs, [f"t{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    def conv(layer, x):
        names = [f"w{len(constants)}", f"b{len(constants)}"]
        for name, tensor in zip(names, (layer.weight, layer.bias)):
            constants.append(numpy_helper.from_array(tensor.detach().contiguous().numpy(), name))
        return node("Conv", [x, *names], kernel_shape=list(layer.kernel_size), strides=list(layer.stride),
                    pads=list(layer.padding) * 2)

    x = node("Relu", [conv(model.conv1, "images")])
    if model.pool is not None:
        x = node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for block in model.blocks():
        y = x
        for i in range(1, block.last + 1):
            y = conv(getattr(block, f"conv{i}"), y)
            y = node("Relu", [y]) if i < block.last else y
        x = node("Relu", [node("Add", [y, x if block.downsample is None else conv(block.downsample[0], x)])])
    x = node("Flatten", [node("GlobalAveragePool", [x])])
    nodes.append(helper.make_node("Div", [x, node("ReduceL2", [x], axes=[1], keepdims=1)], ["vectors"]))
    graph = helper.make_graph(nodes, "embed",
                              [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, size, size])],
                              [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", None])], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def ort_peer(args, folded):
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        write_onnx(folded, path, args.size)
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"images": x})[0], lambda x: x.numpy(), ort.__version__


def main():
    p = argparse.ArgumentParser(description="embedding speed of PyTorch and ONNX Runtime")
    p.add_argument("what", choices=("make", "torch", "ort"))
    p.add_argument("--depth", type=int, default=18)
    p.add_argument("--width", type=int, default=64)
    p.add_argument("--stem", choices=("cifar", "imagenet"), default="cifar")
    p.add_argument("--size", type=int, default=32)
    p.add_argument("--model", required=True)
    p.add_argument("--pixels", required=True)
    p.add_argument("--count", type=int, default=64)
    p.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    p.add_argument("--batches", type=lambda s: [int(b) for b in s.split(",")], default=[1, 8, 32])
    p.add_argument("--seconds", type=float, default=2)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--vectors")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    if args.what == "make":
        net.save(net.calibrated(args.depth, args.width, args.stem, args.size), args.model)
        blocks = np.random.default_rng(0).integers(0, 256, (args.count, 8, 8, 3), np.uint8)
        blocks.repeat(args.size // 8, 1).repeat(args.size // 8, 2).tofile(args.pixels)
        return
    pixels = np.fromfile(args.pixels, np.uint8).reshape(-1, args.size, args.size, 3)
    folded = net.fold(net.load(net.ResNet(args.depth, args.width, args.stem), args.model))
    embed, prepare, version = (torch_peer if args.what == "torch" else ort_peer)(args, folded)
    images = net.normalise(pixels)
    if args.vectors:
        np.concatenate([embed(prepare(part)) for part in images.split(32)]).astype(np.float32).tofile(args.vectors)
    for batch in args.batches:
        x, times = prepare(images[:batch]), []
        end = time.perf_counter() + 0.5
        while time.perf_counter() < end:
            embed(x)
        end = time.perf_counter() + args.seconds
        while len(times) < 5 or time.perf_counter() < end:
            start = time.perf_counter()
            embed(x)
            times.append(time.perf_counter() - start)
        print(json.dumps({"batch": batch, "images_per_second": round(batch / statistics.median(times), 2),
                          "best": round(batch / min(times), 2), "calls": len(times), "precision": args.precision,
                          "version": version}), flush=True)


if __name__ == "__main__":
    main()
