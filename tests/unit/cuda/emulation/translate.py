#!/usr/bin/env python3
"""Turns a CUDA source into C++ for the emulation: translate.py IN.cu OUT.cc

A launch  kernel<<<grid, block, shared, stream>>>(arguments)  becomes  lk_emulate(grid, block, shared,
stream, barriers, lk_emulated_call(kernel, arguments)) , where `barriers` says whether the kernel's threads meet; dynamic
shared memory becomes a pointer. Nothing else is touched: the kernels' own text is what runs.
"""
import re
import sys

OPEN, CLOSE = "([{", ")]}"


def balanced(text, at):
    """Index after the bracket that closes the one at `at`."""
    depth = 0
    for i in range(at, len(text)):
        depth += (text[i] in OPEN) - (text[i] in CLOSE)
        if depth == 0:
            return i + 1
    raise ValueError("unbalanced bracket at %d" % at)


def split(text):
    """Top-level comma-separated parts."""
    parts, depth, begin = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in OPEN) - (c in CLOSE)
        if c == "," and depth == 0:
            parts.append(text[begin:i].strip())
            begin = i + 1
    return parts + [text[begin:].strip()]


def kernels_with_barriers(text):
    names = set()
    for match in re.finditer(r"__global__\s+void\s+(\w+)\s*\(", text):
        body = text.index("{", balanced(text, match.end() - 1))
        if re.search(r"__syncthreads|block_sums?\b", text[body:balanced(text, body)]):
            names.add(match.group(1))
    return names


def kernel_before(text, at):
    """Where the expression that names the kernel begins."""
    begin = at
    while text[begin - 1].isspace():
        begin -= 1
    if text[begin - 1] == ">":
        begin = text.rindex("<", 0, begin)
    return re.search(r"\w+$", text[:begin]).start()


def main():
    text = open(sys.argv[1], encoding="utf-8").read()
    barriers = kernels_with_barriers(text)
    text = re.sub(r"extern __shared__ (\w+) (\w+)\[\];", r"\1 *\2 = static_cast<\1 *>(lk_emulated_shared());", text)
    launches = 0
    while "<<<" in text:
        at = text.index("<<<")
        end = text.index(">>>", at)
        begin = kernel_before(text, at)
        kernel = text[begin:at].strip()
        grid, block, shared, stream = split(text[at + 3 : end])
        close = balanced(text, text.index("(", end))
        arguments = text[text.index("(", end) + 1 : close - 1].strip()
        meets = "true" if re.match(r"\w+", kernel).group() in barriers else "false"
        launch = "lk_emulate(%s, %s, %s, %s, %s, lk_emulated_call(%s, %s))" % (
            grid, block, shared, stream, meets, kernel, arguments)
        text = text[:begin] + launch + text[close:]
        launches += 1
    if not launches:
        sys.exit("%s: no kernel launch found" % sys.argv[1])
    with open(sys.argv[2], "w", encoding="utf-8") as out:
        out.write('#include "emulate.h"\n#line 1 "%s"\n%s' % (sys.argv[1], text))


main()
