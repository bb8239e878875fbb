"""Is the server right under load, does a stop drop nothing, and is everything there after a restart or a kill?"""
import asyncio
import io
import json
import os
import pathlib
import signal
import socket
import sqlite3
import subprocess
import tarfile
import tempfile
import threading
import time

import harness
from harness import Server, cosine, png

PICTURES = [png((37 * i % 256, 91 * i % 256, 13 * i % 256)) for i in range(16)]


async def read_answer(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ")[1])
    length = next(int(l.split(b":")[1]) for l in head.lower().split(b"\r\n") if l.startswith(b"content-length"))
    return status, await reader.readexactly(length), b"connection: close" in head.lower()


def post(target, data):
    return (f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n").encode() + data


def test_a_thousand_concurrent_embeds():
    with Server("--no-log-requests") as s:
        want = [s.embed(p) for p in PICTURES]

        async def one(i, gate):
            reader, writer = await asyncio.open_connection("127.0.0.1", s.port)
            gate.append(i)
            while len(gate) < 1000:  # all are connected before anyone asks
                await asyncio.sleep(0.01)
            writer.write(post("/embed", PICTURES[i % 16]))
            status, body, _ = await read_answer(reader)
            writer.close()
            return i, status, body

        async def all_of_them():
            gate = []
            return await asyncio.wait_for(asyncio.gather(*(one(i, gate) for i in range(1000))), 120)

        for i, status, body in asyncio.run(all_of_them()):
            assert status == 200, body
            vector = json.loads(body)["embeddings"][0]["embedding"]
            others = [cosine(vector, w) for w in want]
            assert others[i % 16] > 0.99999 and max(others) - others[i % 16] < 1e-6
        s.alive()


def test_reads_writes_and_deletes_together():
    with Server("--no-log-requests") as s:
        errors = []

        def worker(n):
            try:
                c = s.connection()
                for i in range(30):
                    name = f"w{n}-{i}"
                    for method, target, body, allowed in (
                            ("PUT", f"/items/{name}", PICTURES[(n + i) % 16], (201,)),
                            ("POST", "/neighbors?k=5", PICTURES[i % 16], (200,)), ("GET", f"/items/{name}", None, (200,)),
                            ("GET", f"/neighbors?id={name}&k=3", None, (200,)), ("GET", "/items?limit=10", None, (200,)),
                            ("DELETE", f"/items/{name}", None, (204,)) if i % 2 else ("GET", "/model", None, (200,))):
                        c.request(method, target, body)
                        answer = c.getresponse()
                        data = answer.read()
                        if answer.status not in allowed:
                            errors.append((method, target, answer.status, data[:200]))
            except Exception as e:
                errors.append(repr(e))

        threads = [threading.Thread(target=worker, args=(n,)) for n in range(8)]
        [t.start() for t in threads], [t.join() for t in threads]
        assert not errors, errors[:5]
        assert s.curl("/model").json()["items"] == 8 * 15
        assert len(s.curl("/items?limit=1000").json()["items"]) == 8 * 15
        assert len(s.curl("/neighbors?k=1000", data=PICTURES[0]).json()["neighbors"]) == 8 * 15


def test_clients_that_leave_do_no_harm():
    with Server("--no-log-requests") as s:
        s.alive()
        before = len(os.listdir(f"/proc/{s.process.pid}/fd"))

        async def leave(i):
            reader, writer = await asyncio.open_connection("127.0.0.1", s.port)
            whole = post("/embed" if i % 2 else "/neighbors", PICTURES[i % 16])
            writer.write(whole[:len(whole) - (i % 3) * 40])
            await writer.drain()
            if i % 5 == 0:
                await asyncio.sleep(0.002)
            writer.transport.abort()

        async def many():
            for _ in range(5):
                await asyncio.gather(*(leave(i) for i in range(100)))

        asyncio.run(many())
        s.alive()
        assert s.curl("/model").json()["queue"]["waiting"] == 0
        end = time.time() + 10  # and their connections are closed, long before any deadline
        while len(os.listdir(f"/proc/{s.process.pid}/fd")) > before + 2 and time.time() < end:
            time.sleep(0.1)
        assert time.time() < end, "connections of clients that left stay open"


def test_exports_are_read_at_the_clients_pace_or_not_at_all():
    with Server("--no-log-requests") as s:
        s.upload({f"{p.parent.name}/{p.name}": p.read_bytes() for p in harness.SAMPLES})
        request = b"GET /export HTTP/1.1\r\nHost: localhost\r\n\r\n"

        def open_small():
            c = socket.create_connection(("127.0.0.1", s.port))
            c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            c.sendall(request)
            return c

        for _ in range(30):  # clients that leave in the middle
            with open_small() as c:
                c.recv(2000)
        with open_small() as c:  # and one that reads slowly, while others are served
            read = 0
            while read < 100000:
                read += len(c.recv(3000))
            s.alive()
        old = s.curl("/export", "--http1.0")
        assert len(tarfile.open(fileobj=io.BytesIO(old.body)).getmembers()) == 2 * len(harness.SAMPLES)
        assert s.curl("/export", method="HEAD").status == 200


def test_pipelined_requests_are_answered_in_order():
    with Server() as s:
        with socket.create_connection(("127.0.0.1", s.port)) as c:
            c.sendall(post("/embed", PICTURES[1]) + post("/embed", b"nonsense") + post("/neighbors", PICTURES[2])
                      + b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            got = b""
            while True:
                piece = c.recv(65536)
                if not piece:
                    break
                got += piece
        assert [int(part[:3]) for part in got.split(b"HTTP/1.1 ")[1:]] == [200, 415, 200, 200]
        assert got.endswith(b'{"live":true}\n')
        with socket.create_connection(("127.0.0.1", s.port)) as c:  # one that sends no more, but waits for its answer
            c.sendall(b"GET /items HTTP/1.1\r\nHost: localhost\r\n\r\n")
            c.shutdown(socket.SHUT_WR)
            assert c.recv(100).startswith(b"HTTP/1.1 200")


def stop_under_load(number):
    with Server("--no-log-requests") as s:
        results = {"answered": 0, "refused": 0, "dropped": [], "bad": []}
        stopping = threading.Event()

        async def client(n):
            i = 0
            while True:
                try:
                    reader, writer = await asyncio.open_connection("127.0.0.1", s.port)
                except ConnectionRefusedError:
                    results["refused"] += 1
                    return
                except OSError as e:  # in the kernel's hands when the port closed: never accepted
                    results["refused"] += 1
                    return
                close = False
                while not close:
                    i += 1
                    put = i % 4 == 0
                    data = PICTURES[(n + i) % 16]
                    request = post("/neighbors?k=3", data) if not put else post("/embed", data)
                    try:
                        writer.write(request)
                        status, body, close = await asyncio.wait_for(read_answer(reader), 60)
                    except (asyncio.IncompleteReadError, OSError) as e:
                        if stopping.is_set() and getattr(e, "partial", b"x") == b"" and not results["answered"]:
                            results["refused"] += 1
                        else:
                            results["dropped"].append(repr(e))
                        return
                    if status != 200:
                        results["bad"].append((status, body[:100]))
                    results["answered"] += 1
                writer.close()

        async def run():
            clients = [asyncio.create_task(client(n)) for n in range(48)]
            await asyncio.sleep(1.0)
            stopping.set()
            s.process.send_signal(number)
            await asyncio.wait_for(asyncio.gather(*clients), 90)

        s.upload({f"i{n}": p for n, p in enumerate(PICTURES)})
        asyncio.run(run())
        assert s.process.wait(60) == 0
        assert results["answered"] > 100 and results["refused"] == 48, results
        assert not results["dropped"] and not results["bad"], results


def test_a_stop_during_load_drops_no_answer():
    stop_under_load(signal.SIGTERM)


def test_an_interrupt_during_load_drops_no_answer():
    stop_under_load(signal.SIGINT)


def everything(s):
    items, target = [], "/items?limit=1000"
    while target:
        page = s.curl(target).json()
        items += page["items"]
        target = "/items?limit=1000&after=" + harness.quote(page["next"]) if page["next"] else None
    near = s.curl("/neighbors?k=20&id=" + harness.quote(items[0]["id"])).json()["neighbors"]
    return items, [(h["id"], round(h["score"], 5)) for h in near]


def test_a_restart_has_everything_still_there():
    with tempfile.TemporaryDirectory() as folder:
        with Server(folder=folder) as s:
            s.upload({f"{p.parent.name}/{p.name}": p.read_bytes() for p in harness.SAMPLES[:200]})
            s.put("extra", PICTURES[3], {"kept": [1, 2, {"x": None}]})
            s.curl("/items/" + harness.quote("airplane/0000.jpg"), method="DELETE")
            before, space = everything(s), s.curl("/model").json()["space"]
            picture = s.curl("/items/extra/image").body
        with Server(folder=folder) as s:
            assert everything(s) == before
            model = s.curl("/model").json()
            assert model["space"] == space and model["generation"] == 1 and model["items"] == len(before[0])
            assert s.curl("/items/extra/image").body == picture == PICTURES[3]
        # Other weights: another space, a new generation, and every item is embedded again before the server is ready.
        with Server(folder=folder, model="tiny-2.safetensors") as s:
            model = s.curl("/model").json()
            assert model["space"] != space and model["generation"] == 2 and model["items"] == len(before[0])
            assert everything(s)[0] == before[0] or [i["id"] for i in everything(s)[0]] == [i["id"] for i in before[0]]
            hit = s.curl("/neighbors?k=1", data=PICTURES[3]).json()["neighbors"][0]
            assert hit["id"] == "extra" and hit["score"] > 0.9999
        with Server(folder=folder) as s:  # and back: a third generation, with the first vectors
            assert s.curl("/model").json()["generation"] == 3 and everything(s)[1] == before[1]


def test_a_stop_before_it_serves_is_heard_and_the_next_start_goes_on():
    count = 1000
    with tempfile.TemporaryDirectory() as folder:
        with Server(folder=folder) as s:
            s.put("cat", PICTURES[0])
        catalogue = f"{folder}/catalogue.db"
        columns = "metadata, media_type, image, image_bytes, width, height, created_ms, updated_ms, image_seq, seq"
        db = sqlite3.connect(catalogue)
        with db:  # items without vectors
            db.executemany(f"INSERT INTO items(id, {columns}) SELECT ?, {columns} FROM items WHERE id = 'cat'",
                           ((f"{i:04d}",) for i in range(count)))
            db.execute("UPDATE counters SET value = value + ? WHERE name = 'items'", (count,))
        db.close()
        with open(f"{folder}/stopped", "wb") as log:
            command = [str(harness.BIN / "likeness-server"), "--model", f"{folder}/tiny.safetensors", "--catalogue",
                       catalogue, "--listen", "127.0.0.1:0", *harness.SINGLE]
            process = subprocess.Popen(command, stderr=log)
        text = pathlib.Path(folder, "stopped").read_text
        harness.wait_until(lambda: f"embedding again {count} items" in text())
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0 and "listening" not in text(), text()
        with Server(folder=folder) as s:
            assert s.curl("/model").json()["items"] == count + 1


def test_what_was_answered_survives_kill_9():
    with tempfile.TemporaryDirectory() as folder:
        for number in range(3):
            s = Server("--no-log-requests", folder=folder)
            acknowledged = []

            def writer(n):
                c = s.connection()
                try:
                    for i in range(100000):
                        name = f"r{number}-w{n}-{i}"
                        c.request("PUT", "/items/" + name, PICTURES[(n + i) % 16])
                        answer = c.getresponse()
                        answer.read()
                        if answer.status == 201:
                            acknowledged.append(name)
                except OSError:
                    pass
                except Exception:
                    pass

            threads = [threading.Thread(target=writer, args=(n,)) for n in range(8)]
            [t.start() for t in threads]
            time.sleep(0.7)
            os.kill(s.process.pid, signal.SIGKILL)
            [t.join() for t in threads]
            s.process.wait()
            s.log_file.close()
            with Server(folder=folder) as again:
                there = {i["id"] for i in everything(again)[0]}
                assert acknowledged and not set(acknowledged) - there, set(acknowledged) - there
                assert again.curl("/model").json()["items"] == len(there)


def test_memory_does_not_grow():
    with Server("--no-log-requests") as s:
        def resident():
            with open(f"/proc/{s.process.pid}/statm") as f:
                return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        def work(n):
            c = s.connection()
            for i in range(n):
                for target in ("/embed", "/neighbors?k=3"):
                    c.request("POST", target, PICTURES[i % 16])
                    c.getresponse().read()
                c.request("POST", "/embed", b"nonsense" * 1000)
                c.getresponse().read()
                c.request("PUT", "/items/same", PICTURES[i % 16])
                c.getresponse().read()
            c.close()

        work(200)
        before = resident()
        work(400)
        # A sanitizer keeps freed memory for a while, and finds leaks by itself.
        assert harness.SANITIZED or resident() - before < 8 << 20, (before, resident())


harness.main(globals())
