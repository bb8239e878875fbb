#!/usr/bin/env python3
"""How many pictures a second does POST /items add, each on the disk before its line comes back, and what bounds that?

Sends the pictures of the test data by turns, each under an id of its own and each with some bytes of its own behind its end,
so that none is stored twice, as one multipart body; on a new catalogue for every round. Prints items a second by the clock,
and the server's stages and processor time an item.
    tests/bench/server/bulk_add.py [--items N] [--rounds N] [--connections N] [--model FILE] [--folder DIR] [SERVER OPTIONS...]
Without --model: the smallest network, of which nearly nothing is computing. DIR: on which disk. LK_BIN_DIR: where
likeness-server is."""
import argparse
import os
import pathlib
import re
import shutil
import socket
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "api/server"))
from harness import SAMPLES, Server  # noqa: E402


def body_of(first, n, pictures):
    parts = []
    for i in range(first, first + n):
        parts += [b'--limit\r\nContent-Disposition: form-data; name="picture"; filename="item-%09d"\r\n\r\n' % i,
                  pictures[i % len(pictures)], b"%d" % i, b"\r\n"]
    return b"".join(parts) + b"--limit--\r\n"


def post(port, body, n, failures):
    s = socket.create_connection(("127.0.0.1", port))
    s.settimeout(600)

    def send():
        s.sendall(b"POST /items HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n"
                  b"Content-Type: multipart/form-data; boundary=limit\r\n\r\n" % len(body))
        s.sendall(body)

    sender = threading.Thread(target=send)
    sender.start()
    answer = bytearray()
    while piece := s.recv(1 << 16):
        answer += piece
    sender.join()
    s.close()
    if answer.count(b'"status":201') != n:
        failures.append(answer[:500])


def cpu_of(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def written_by(process):
    return int(re.search(r"^write_bytes: (\d+)", pathlib.Path(f"/proc/{process.pid}/io").read_text(), re.M).group(1))


def stages(s):
    text = s.curl("/metrics").body.decode()
    return {stage: float(value) for stage, value in
            re.findall(r'likeness_stage_duration_seconds_sum\{stage="(\w+)"\} (\S+)', text)}


def measure(folder, own, options):
    pictures = [path.read_bytes() for path in SAMPLES]
    share = own.items // own.connections
    bodies = [body_of(i * share, share, pictures) for i in range(own.connections)]
    items = share * own.connections
    model = {"model": "model.safetensors"} if own.model else {}
    if own.model:
        shutil.copyfile(own.model, folder / "model.safetensors")
    with Server("--no-log-requests", *options, folder=folder, **model) as s:
        failures, cpu, before, disk = [], cpu_of(s.process), stages(s), written_by(s.process)
        start = time.time()
        threads = [threading.Thread(target=post, args=(s.port, body, share, failures)) for body in bodies]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        took = time.time() - start
        assert not failures, failures[0]
        cpu, after = cpu_of(s.process) - cpu, stages(s)
        spent = ", ".join(f"{stage} {(after[stage] - before[stage]) / items * 1e3:.2f}"
                          for stage in ("decode", "queue", "inference", "write"))
        print(f"{items / took:6.0f} items a second; an item: {cpu / items * 1e3:.2f} ms of a core, "
              f"{(written_by(s.process) - disk) / items / 1e3:.1f} kB written; stages in ms: {spent}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--model", type=pathlib.Path)
    parser.add_argument("--folder", type=pathlib.Path)
    own, options = parser.parse_known_args()
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    for _ in range(own.rounds):
        with tempfile.TemporaryDirectory(prefix="likeness-bench-", dir=own.folder) as folder:
            measure(pathlib.Path(folder), own, options)


main()
