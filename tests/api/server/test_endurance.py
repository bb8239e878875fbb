"""Does the server stay as it is: after many requests of all kinds, and after clients that leave at every byte?

  test_endurance.py            some thousand requests
  test_endurance.py --long     200,000
"""
import json
import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time

import harness
from harness import SAMPLES, Server, b64, png, png_header_only, wait_until

LONG = "--long" in sys.argv and (sys.argv.remove("--long") or True)
REQUESTS = 200_000 if LONG else 1500 if harness.SANITIZED else 4000
CAT = png((200, 30, 10))
BOUNDARY = "xXxXx"


def rss(server):
    with open(f"/proc/{server.process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def descriptors(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def settled_descriptors(server, want):
    end = time.time() + 20
    while descriptors(server) > want and time.time() < end:
        time.sleep(0.1)
    return descriptors(server)


def multipart(files):
    return b"".join(f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="p"; filename="{name}"\r\n\r\n'.encode() + data + b"\r\n"
                    for name, data in files) + f"--{BOUNDARY}--\r\n".encode()


def kinds(rng, n):
    """One request of some kind, right or wrong: method, target, headers, body, statuses allowed."""
    picture, item = rng.choice(SAMPLES).read_bytes(), f"item-{rng.randrange(300)}"
    as_json = {"Content-Type": "application/json"}
    form = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return rng.choice([
        ("POST", "/embed", {}, picture, (200,)),
        ("POST", "/embed", {}, picture[: rng.randrange(1, len(picture))], (200, 415, 422)),
        ("POST", "/embed", {}, png_header_only(100_000, 100_000), (422,)),
        ("POST", "/embed", as_json, json.dumps({"images": [b64(CAT), "no base64", b64(picture)]}).encode(), (200,)),
        ("POST", "/embed", as_json, b'{"images": [', (400,)),
        ("POST", "/neighbors?k=5", {}, picture, (200,)),
        ("POST", "/neighbors", as_json, json.dumps({"queries": [{"image": b64(picture)}, {"id": item}]}).encode(), (200,)),
        ("POST", "/neighbors", as_json, json.dumps({"vector": [rng.random() for _ in range(64)], "k": 3,
                                                    "filter": {"must": [{"key": "n", "range": {"gte": 10}}]}}).encode(), (200,)),
        ("GET", f"/neighbors?id={item}&k=3", {}, None, (200, 404)),
        ("PUT", f"/items/{item}?metadata=%7B%22n%22%3A{n % 100}%7D", {}, picture, (200, 201)),
        ("PATCH", f"/items/{item}", as_json, b'{"seen": true}', (200, 404)),
        ("DELETE", f"/items/{item}", {}, None, (204, 404)),
        ("GET", f"/items/{item}", {}, None, (200, 404)),
        ("GET", f"/items/{item}/image", {}, None, (200, 404)),
        ("GET", "/items?limit=20", {}, None, (200,)),
        ("POST", "/items", form, multipart([(item, picture), ("b\x01d", CAT), (f"{item}-2", b"junk")]), (200,)),
        ("GET", "/model", {}, None, (200,)),
        ("GET", "/nowhere", {}, None, (404,)),
        ("PUT", "/model", {}, b"no model", (422, 409)),  # 409: another's is being looked at
        ("POST", "/items/x", {}, picture, (405,)),
    ])


def test_memory_and_descriptors_stay_flat_over_many_requests():
    with Server("--no-log-requests") as s:
        failures, done, lock = [], [0], threading.Lock()

        def worker(seed, count):
            rng, c = random.Random(seed), s.connection()
            for n in range(count):
                method, target, headers, body, allowed = kinds(rng, n)
                try:
                    c.request(method, target, body=body, headers=headers)
                    answer = c.getresponse()
                    data = answer.read()
                    if answer.status not in allowed:
                        failures.append((method, target, answer.status, data[:200]))
                except (OSError, __import__("http").client.HTTPException) as error:
                    failures.append((method, target, repr(error)))
                    c = s.connection()
                with lock:
                    done[0] += 1

        def run(total, seed):
            threads = [threading.Thread(target=worker, args=(seed + i, total // 4)) for i in range(4)]
            [t.start() for t in threads], [t.join() for t in threads]

        run(REQUESTS // 4, 1)  # pools, caches and the items themselves fill
        warm, open_before = rss(s), descriptors(s)
        run(REQUESTS, 100)
        end = rss(s)
        print(f"{done[0]} requests: {warm >> 10} MiB after a fifth of them, {end >> 10} MiB at the end; "
              f"{descriptors(s)} descriptors")
        assert not failures, failures[:5]
        if not harness.SANITIZED:
            assert end < (1.05 if LONG else 1.2) * warm, (warm, end)
        assert settled_descriptors(s, open_before) <= open_before
        s.alive()


def test_a_client_may_leave_at_every_byte():
    with Server("--no-log-requests") as s:
        small = png((1, 200, 3), 8, 8)
        body = multipart([("a", small), ("b", small)])
        requests = [
            b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(small) + small,
            b"PUT /items/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(small) + small + b"\r\n0\r\n\r\n",
            b"POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=xXxXx\r\nContent-Length: %d\r\n\r\n"
            % len(body) + body,
            b'POST /neighbors HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 22\r\n\r\n{"id": "x", "k": 1}   ',
            b"PUT /model HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40\r\n\r\n" + b"m" * 40,
            b"GET /export HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ]
        s.embed(CAT)
        before, memory = descriptors(s), rss(s)
        for request in requests:
            for at in range(0, len(request) + 1, 1 if LONG or not harness.SANITIZED else 5):
                with socket.create_connection(("127.0.0.1", s.port)) as c:
                    c.sendall(request[:at])
                    if at % 3 == 0:  # some by a reset
                        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert settled_descriptors(s, before) <= before
        if not harness.SANITIZED:
            assert rss(s) < 1.3 * memory + 16384, (memory, rss(s))
        assert list((s.folder / "catalogue.db.models").glob("*")) == []
        s.alive()


def test_a_publish_gives_the_memory_of_the_old_index_back():
    if harness.SANITIZED:  # their allocators keep what is freed
        return
    items, folder = 12_000, tempfile.TemporaryDirectory(prefix="likeness-api-")
    tools, at = harness.BIN.parent / "tests/bin", pathlib.Path(folder.name)
    for name, seed in (("a", "1"), ("b", "2")):  # 512 dimensions, of 8 pixels
        subprocess.run([tools / "make_model", at / f"{name}.safetensors", seed, "16", "50", "8"], check=True)
    subprocess.run([tools / "make_catalogue", at / "a.safetensors", at / "catalogue.db", str(items)], check=True)
    with folder, Server("--no-log-requests", "--publish-share", "1", folder=at, model="a.safetensors") as s:
        before = rss(s)
        assert s.curl("/model", "-T", at / "b.safetensors", method="PUT").status == 202
        status = s.published(120)
        assert status["state"] == "done" and status["embedded"] == items, status
        own = items * 512 * 4 >> 10  # KiB
        print(f"     {own >> 10} MiB of vectors; grown by {rss(s) - before >> 10} MiB")
        wait_until(lambda: rss(s) - before < own)


harness.main(globals())
