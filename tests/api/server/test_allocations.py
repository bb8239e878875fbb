"""Does a usual request need memory of its own? What the server's own code allocates is counted, after warming up; what
libpng, SQLite, FAISS, libmicrohttpd and the like do for themselves is not. A request's body may be one allocation."""
import json
import os
import pathlib
import signal
import struct
import sys
import time

import harness
from harness import BIN, JSON, SANITIZED, Server, png

COUNTER = BIN.parent / "tests/lib/count_allocations.so"
WARM, COUNTED = 40, 60
OTHERS = 15  # what other threads may do meanwhile; a quarter of what one more in each request would be


def count(server, path):
    path.unlink(missing_ok=True)
    server.process.send_signal(signal.SIGUSR1)
    end = time.time() + 30
    while not (path.exists() and path.stat().st_size == struct.calcsize("l")):
        assert time.time() < end, "the counter does not answer"
        time.sleep(0.01)
    return struct.unpack("l", path.read_bytes())[0]


def ask(connection, method, target, body=None):
    connection.request(method, target, body=body, headers=dict([JSON[0].split(": ")]) if isinstance(body, str) else {})
    answer = connection.getresponse()
    assert answer.read() and answer.status == 200, (target, answer.status)


def allocations(server, path, *request):
    connection = server.connection()
    for _ in range(WARM):
        ask(connection, *request)
    before = count(server, path)
    for _ in range(COUNTED):
        ask(connection, *request)
    return count(server, path) - before


def test_a_usual_request_allocates_its_body_and_nothing_else():
    path = pathlib.Path(os.environ.get("TMPDIR", "/tmp")) / f"likeness-allocations-{os.getpid()}"
    with Server(environment={"LD_PRELOAD": str(COUNTER), "COUNT_ALLOCATIONS": str(path)}) as s:
        for i in range(30):
            assert s.put(f"i{i}", png((8 * i, 255 - 8 * i, 40)), {"n": i}).status == 201
        vector = s.embed(png((90, 90, 200)))
        small, large = png((200, 30, 10)), png((10, 130, 10), 150, 90)
        for what, most, request in (("a picture", 1, ("POST", "/embed", small)),
                                    ("a picture that is resized", 1, ("POST", "/embed", large)),
                                    ("neighbours of an item", 0, ("GET", "/neighbors?id=i3&k=10")),
                                    ("neighbours of a vector", 1,
                                     ("POST", "/neighbors", json.dumps({"vector": vector, "k": 10}))),
                                    ("an item", 0, ("GET", "/items/i7")),
                                    ("neighbours of a picture", 1, ("POST", "/neighbors?k=5", small)),
                                    ("a probe", 0, ("GET", "/livez"))):
            got = allocations(s, path, *request)
            assert got <= most * COUNTED + OTHERS, f"{what}: {got} allocations in {COUNTED} requests"
    path.unlink(missing_ok=True)


if __name__ == "__main__":
    if SANITIZED:  # they have an allocator of their own, and an arena makes an allocation of each piece there
        print("skipped: built with a sanitizer")
        sys.exit(77)
    harness.main(globals())
