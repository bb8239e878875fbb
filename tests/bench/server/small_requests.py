#!/usr/bin/env python3
"""What does the server itself cost, where nothing much is computed? Processor time of the whole process a small request.

    tests/bench/server/small_requests.py BIN [BIN...] [--rounds 5] [--requests 4000]

Each BIN is a folder with a likeness-server (build/bin; of another commit, to compare). Servers with a small network and 1,000
items are asked by turns over one connection, one request after another, --rounds times each; what counts is the time that the
kernel says all threads of the server ran, so that the client does not matter and a busy machine matters little. All of them
are on one core, since waking another one costs more than such a request, and how much changes from minute to minute. Prints
a table of medians, with the smallest and largest."""
import argparse
import json
import os
import pathlib
import socket
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]


def running_ns(pid):
    return sum(int((task / "schedstat").read_text().split()[0]) for task in pathlib.Path(f"/proc/{pid}/task").iterdir())


def receive(sock):
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += sock.recv(65536)


def microseconds(server, request, n):
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(-n // 10, n):
            if i == 0:
                begun = running_ns(server.process.pid)
            sock.sendall(request)
            receive(sock)
        return (running_ns(server.process.pid) - begun) / n * 1e-3


def message(method, target, kind=None, body=b""):
    head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if kind:
        head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def requests(vector):
    return {"`GET /livez`": message("GET", "/livez"),
            "`GET /items/{id}`": message("GET", "/items/i7"),
            "`GET /neighbors?id=`": message("GET", "/neighbors?id=i7&k=10"),
            "`POST /neighbors`, a vector": message("POST", "/neighbors", "application/json",
                                                  json.dumps({"vector": vector, "k": 10}).encode())}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bins", nargs="+", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=4000)
    o = parser.parse_args()
    os.environ["LK_BIN_DIR"] = str(o.bins[0].resolve())
    sys.path.insert(0, str(ROOT / "tests/api/server"))
    sys.dont_write_bytecode = True
    import harness
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    servers, figures = [], {}
    try:
        for path in o.bins:
            s = harness.Server("--no-log-requests", program=path.resolve() / "likeness-server")
            servers.append(s)
            colours = [(i % 256, i // 4 % 256, 255 - i % 200) for i in range(1000)]
            for first in range(0, 1000, 100):
                files = {f"i{i}": harness.png(colours[i]) for i in range(first, first + 100)}
                assert s.upload(files).status == 200
            vector = s.embed(harness.png((90, 90, 200)))
        for _ in range(o.rounds):
            for name, request in requests(vector).items():
                for i, s in enumerate(servers):
                    figures.setdefault((name, i), []).append(microseconds(s, request, o.requests))
    finally:
        for s in servers:
            s.__exit__(None, None, None)
    print("| µs of a core a request | " + " | ".join(str(b) for b in o.bins) + " |")
    print("| --- |" + " ---: |" * len(o.bins))
    for name in dict.fromkeys(name for name, _ in figures):
        cells = [figures[name, i] for i in range(len(o.bins))]
        print(f"| {name} | " + " | ".join(f"{statistics.median(c):.1f} ({min(c):.1f}-{max(c):.1f})" for c in cells) + " |")
    print(f"load: {os.getloadavg()[0]:.1f}")


main()
