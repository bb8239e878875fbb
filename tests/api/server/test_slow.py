"""Do a thousand slow clients harm the others, and do their connections come back? (as slowhttptest's -H, -B and -X)

Short by default; LK_SLOW_SECONDS=60 for long rounds, LK_SLOWHTTPTEST=1 to let the program of that name (Debian's package
slowhttptest) make the slow connections instead of our own.
"""
import os
import pathlib
import resource
import selectors
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib

COUNT = int(os.environ.get("LK_SLOW_CONNECTIONS", "1000"))
SECONDS = float(os.environ.get("LK_SLOW_SECONDS", "4"))
HEADS = {  # what each kind sends at once; then a byte a second, or reads one
    "H": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    "B": b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n",
    "X": b"GET /items/big/image HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


def slow_clients(kind, port, count):
    """Keeps `count` slow connections open until it is killed; says so when they stand."""
    os.nice(10)
    selector, opened = selectors.DefaultSelector(), 0

    def open_one():
        c = socket.socket()
        if kind == "X":
            c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        c.connect(("127.0.0.1", port))
        c.sendall(HEADS[kind])
        c.setblocking(False)
        if kind != "X":
            selector.register(c, selectors.EVENT_READ)
        return c

    mine = set()
    while True:
        while len(mine) < count:
            mine.add(open_one())
            opened += 1
            if opened == count:
                print("standing", flush=True)
        until = time.time() + 1
        while (left := until - time.time()) > 0:
            for key, _ in selector.select(left):  # an answer, or the end: a new one takes its place
                selector.unregister(key.fileobj)
                mine.discard(key.fileobj)
                key.fileobj.close()
        for c in list(mine):
            try:
                if kind == "X":
                    if not c.recv(1):
                        raise ConnectionError
                else:
                    c.send(b"x")
            except BlockingIOError:
                pass
            except OSError:
                if kind != "X":
                    selector.unregister(c)
                mine.discard(c)
                c.close()


if len(sys.argv) == 5 and sys.argv[1] == "--slow":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    try:
        slow_clients(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    except KeyboardInterrupt:
        pass
    sys.exit(0)

import harness  # noqa: E402 (the slow clients need none of it)
from harness import Server, png  # noqa: E402

CAT = png((200, 30, 10))


def noise(side):
    rows = b"".join(b"\0" + os.urandom(3 * side) for _ in range(side))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows, 0)) + chunk(b"IEND", b""))


def normal_clients(s, seconds):
    """Seconds that requests took, of two clients that ask and embed, one after another; all have to be answered."""
    took, failures, end = [], [], time.time() + seconds

    def run():
        try:
            c = s.connection()
            while time.time() < end:
                for method, target, body in (("GET", "/livez", None), ("POST", "/embed", CAT)):
                    start = time.perf_counter()
                    c.request(method, target, body=body)
                    answer = c.getresponse()
                    answer.read()
                    took.append(time.perf_counter() - start)
                    assert answer.status == 200, answer.status
            c.close()
        except Exception as e:
            failures.append(e)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures, failures
    return sorted(took)


def p99(took):
    return took[int(0.99 * (len(took) - 1))]


def descriptors(s):
    return len(os.listdir(f"/proc/{s.process.pid}/fd"))


class Slow:
    def __init__(self, kind, s):
        if os.environ.get("LK_SLOWHTTPTEST"):
            program = shutil.which("slowhttptest") or sys.exit("LK_SLOWHTTPTEST is set, but there is no slowhttptest")
            url = s.base + {"H": "/livez", "B": "/embed", "X": "/items/big/image"}[kind]
            more = {"H": ["-i", "1"], "B": ["-i", "1", "-s", "1000000"], "X": ["-w", "1", "-y", "2", "-n", "1", "-z", "1"]}[kind]
            self.process = subprocess.Popen([program, f"-{kind}", "-c", str(COUNT), "-r", "500", "-l", "3600", "-u", url, *more],
                                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        else:
            self.process = subprocess.Popen([sys.executable, __file__, "--slow", kind, str(s.port), str(COUNT)],
                                            stdout=subprocess.PIPE)
            assert self.process.stdout.readline() == b"standing\n"

    def stop(self):
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


def bound(before):
    """What is promised, where there is the time to measure it; else that normal clients are not locked out."""
    return 2 * before if SECONDS >= 30 else 60 if harness.SANITIZED else max(2 * before, 0.5)


def round_of(kind):
    with Server("--header-timeout-seconds", "3", "--body-timeout-seconds", "3", "--answer-timeout-seconds", "3",
                "--no-log-requests") as s:
        assert s.curl("/items/big", data=noise(300), method="PUT").status == 201
        s.alive()
        time.sleep(0.3)
        before_fds = descriptors(s)
        for attempt in range(4):  # the machine has other work, too: once has to be quiet
            before = p99(normal_clients(s, SECONDS))
            slow = Slow(kind, s)
            try:
                end = time.time() + 60
                while descriptors(s) < before_fds + COUNT // 2:
                    assert time.time() < end, "the slow connections do not stand"
                    time.sleep(0.05)
                during = p99(normal_clients(s, SECONDS))
                open_fds = descriptors(s)
            finally:
                slow.stop()
            print(f"     -{kind}: {open_fds} descriptors, p99 {before * 1e3:.1f} ms before, {during * 1e3:.1f} ms during")
            if during <= bound(before):
                break
        assert during <= bound(before), (before, during)
        end = time.time() + 15
        while descriptors(s) > before_fds:
            assert time.time() < end, (before_fds, descriptors(s))
            time.sleep(0.1)
        s.alive()
        expired = {"H": "headers", "B": "body", "X": "answer"}[kind]
        text = s.curl("/metrics").body.decode()
        n = int(text.split(f'expired_total{{deadline="{expired}"}} ')[1].split("\n")[0])
        assert n > 0, text


def test_slow_headers():
    round_of("H")


def test_slow_bodies():
    round_of("B")


def test_slow_reading():
    round_of("X")


harness.main(globals())
