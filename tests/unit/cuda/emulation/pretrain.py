#!/usr/bin/env python3
"""Does a run on the emulated CUDA device give the CPU's losses? pretrain.py TRAINER

Two steps in fp32: the first loss depends on pictures, views, weights and the forward pass, the second on the whole first
step. Later ones drift apart, as rounding grows.
"""
import json
import os
import subprocess
import sys
import tempfile

OPTIONS = ["--width", "8", "--image-size", "16", "--epochs", "1", "--batch", "32", "--train-limit", "64", "--test-limit",
           "32", "--seed", "3", "--log-every", "1", "--precision", "fp32", "--blur-p", "0.5"]


def losses(folder, device):
    data = os.path.join(os.environ["LK_SOURCE_DIR"], "tests", "data", "cifar10-sample")
    run = os.path.join(folder, device.replace(":", ""))
    command = [sys.argv[1], "pretrain", "--device", device, "--data", data, "--out", run + ".safetensors", "--run-dir", run]
    subprocess.run(command + OPTIONS, check=True)
    with open(os.path.join(run, "metrics.jsonl"), encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    return [r["loss"] for r in records if r["kind"] == "step"]


with tempfile.TemporaryDirectory() as folder:
    cpu, cuda = losses(folder, "cpu"), losses(folder, "cuda:0")
print("cpu ", cpu, "\ncuda", cuda)
assert len(cpu) == len(cuda) == 2, "two steps were asked for"
assert abs(cpu[0] - cuda[0]) < 2e-6, "the first forward pass differs"
assert abs(cpu[1] - cuda[1]) < 5e-4, "the first update differs" # a ReLU may flip
