#!/usr/bin/env python3
"""Write python.safetensors with the reference package (pip install safetensors torch), or check a file with it.

    make_python_sample.py                   # writes the sample that test_safetensors.c reads
    make_python_sample.py --check FILE      # opens FILE, which our writer made, and prints its tensors
"""
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file


def sample():
    ramp = (torch.arange(6, dtype=torch.float64).reshape(2, 3) - 2) * 0.375
    tensors = {name: ramp.to(dtype) for name, dtype in (("f64", torch.float64), ("f32", torch.float32),
                                                        ("f16", torch.float16), ("bf16", torch.bfloat16))}
    for name, dtype in (("i64", torch.int64), ("i32", torch.int32), ("i16", torch.int16), ("i8", torch.int8),
                        ("u8", torch.uint8), ("bool", torch.bool)):
        tensors[name] = torch.tensor([0, 1, 1]).to(dtype)
    tensors["scalar"] = torch.tensor(7.5)
    tensors["empty"] = torch.zeros(2, 0)
    save_file(tensors, Path(__file__).with_name("python.safetensors"),
              metadata={"author": "café \"quoted\" \\ \n\U0001F600"})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        with safe_open(sys.argv[2], "pt") as file:
            print(file.metadata())
            for name in file.keys():
                tensor = file.get_tensor(name)
                print(name, tensor.dtype, tuple(tensor.shape), tensor.flatten()[:4].tolist())
    else:
        sample()
