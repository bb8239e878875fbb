"""Does every limit hold, is it named in the answer, and does the server go on afterwards?"""
import json
import os
import re
import socket
import threading
import time

import harness
from harness import SAMPLES, Server, b64, parse, png, refused

CAT = png((200, 30, 10))
JSON = ["Content-Type: application/json"]


def connect(s):
    c = socket.create_connection(("127.0.0.1", s.port))
    c.settimeout(30)
    return c


def ask(c, head=b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"):
    c.sendall(head)
    return c.recv(65536)


def closed(c, seconds):
    """Seconds until the server closes."""
    start = time.time()
    c.settimeout(seconds)
    while c.recv(65536):
        pass
    return time.time() - start


def test_more_connections_wait_for_their_turn():
    with Server("--connections", "4") as s:
        held = [connect(s) for _ in range(4)]
        for c in held:
            assert b"200 OK" in ask(c)
        waiting = connect(s)  # the kernel takes it, the server not yet
        waiting.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        waiting.settimeout(0.5)
        try:
            raise AssertionError(waiting.recv(100))
        except TimeoutError:
            pass
        held.pop().close()
        waiting.settimeout(30)
        assert b"200 OK" in waiting.recv(65536)
        for c in held + [waiting]:
            c.close()
        s.alive()


def test_connections_of_one_address():
    with Server("--connections-per-address", "3") as s:
        held = [connect(s) for _ in range(3)]
        for c in held:
            assert b"200 OK" in ask(c)
        more = connect(s)
        try:
            assert ask(more) == b"", "a fourth connection of one address was served"
        except ConnectionError:
            pass
        more.close()
        other = socket.socket()
        other.bind(("127.0.0.2", 0))
        other.connect(("127.0.0.1", s.port))
        assert b"200 OK" in ask(other)
        for c in held + [other]:
            c.close()
        end = time.time() + 10
        while True:  # a closed connection counts until the server has seen it
            try:
                with connect(s) as c:
                    if b"200 OK" in ask(c):
                        break
            except ConnectionError:
                pass
            assert time.time() < end
            time.sleep(0.05)
        s.alive()


def test_a_byte_a_second_does_not_move_a_deadline():
    with Server("--header-timeout-seconds", "2.5", "--body-timeout-seconds", "2.5") as s:
        def drip(head):
            with connect(s) as c:
                c.sendall(head)
                start, answer = time.time(), b""
                c.settimeout(1)
                while time.time() - start < 15:
                    try:
                        c.sendall(b"x")
                        piece = c.recv(4096)
                        if not piece:
                            break
                        answer += piece
                    except TimeoutError:
                        continue
                    except OSError:
                        break
                took = time.time() - start
            assert 2.3 < took < 6, took
            refused(parse(answer), 408, "request_timeout")
        drips = [b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
                 b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"]
        failures = []

        def guarded(head):
            try:
                drip(head)
            except BaseException as e:
                failures.append(e)
        threads = [threading.Thread(target=guarded, args=(d,)) for d in drips]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not failures, failures
        m = s.curl("/metrics").body.decode()
        assert 'expired_total{deadline="headers"} 1\n' in m and 'expired_total{deadline="body"} 1\n' in m, m


def test_an_answer_has_to_be_taken():
    with Server("--answer-timeout-seconds", "1") as s:
        big = png((1, 2, 3)) + os.urandom(8 << 20)
        status = s.curl("/items/big", data=big, method="PUT").status
        assert status in (201, 422), status
        if status == 422:  # bytes behind a picture's end are refused: a large picture then
            import zlib
            import struct
            rows = b"".join(b"\0" + os.urandom(3 * 1500) for _ in range(1500))
            head = struct.pack(">IIBBBBB", 1500, 1500, 8, 2, 0, 0, 0)
            chunk = lambda k, d: struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d))
            big = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 0)) + chunk(b"IEND", b""))
            assert s.curl("/items/big", data=big, method="PUT").status == 201
        for target in ("/items/big/image", "/export"):  # from memory, and in pieces
            c = socket.socket()
            c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            c.connect(("127.0.0.1", s.port))
            c.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            time.sleep(2.5)  # reads nothing
            end = time.time() + 10
            got = 0
            c.settimeout(10)
            try:
                while time.time() < end:
                    piece = c.recv(1 << 20)
                    if not piece:
                        break
                    got += len(piece)
            except ConnectionError:
                pass
            assert got < len(big), "the answer was sent although nobody took it"
            c.close()
            # who takes his time, but takes, gets all of it
            c = connect(s)
            c.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            got = 0
            while piece := c.recv(1 << 20):
                got += len(piece)
            assert got > len(big), got
            c.close()
        assert 'expired_total{deadline="answer"} 2\n' in s.curl("/metrics").body.decode()
        s.alive()


def test_a_client_shortens_its_deadline():
    with Server("--request-timeout-seconds", "20", "--max-delay-us", "100000") as s:
        for wrong in ("", "x", "1.5", "-1", "0", "1e3", " ", "12345678901", "5 5", "+5"):
            header = f"X-Request-Timeout-Ms: {wrong}" if wrong.strip() else "X-Request-Timeout-Ms;"
            refused(s.curl("/embed", data=CAT, headers=[header]), 400, "invalid_argument", "X-Request-Timeout-Ms")
        refused(s.curl("/embed", data=CAT, headers=["X-Request-Timeout-Ms: 20"]), 504, "deadline_exceeded")
        refused(s.curl("/items/x", data=CAT, method="PUT", headers=["X-Request-Timeout-Ms: 20"]), 504, "deadline_exceeded")
        assert s.curl("/items/x").status == 404, "a write whose deadline passed was made"
        assert s.curl("/embed", data=CAT, headers=["X-Request-Timeout-Ms: 20000"]).status == 200
    with Server("--request-timeout-seconds", "0.02", "--max-delay-us", "100000") as s:  # the server's is the greatest
        refused(s.curl("/embed", data=CAT, headers=["X-Request-Timeout-Ms: 9999999"]), 504, "deadline_exceeded")


def test_a_claimed_length_takes_no_memory():
    """Many who announce a large body and send none of it must not keep others out."""
    with Server("--max-body-bytes", "1M", "--body-memory-bytes", "4M", "--decode-memory-bytes", "200M") as s:
        slow = [connect(s) for _ in range(20)]
        for c in slow:
            c.sendall(b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nabc")
        time.sleep(0.3)
        s.alive()
        body = json.dumps({"images": [b64(CAT)], "x": "y" * 900000}).encode()
        refused(s.curl("/embed", data=body, headers=JSON), 400, "invalid_argument")
        for c in slow:  # what does come counts
            c.sendall(b"x" * 400000)
        time.sleep(0.3)
        refused(s.curl("/embed", data=body, headers=JSON), 429, "overloaded")
        for c in slow:
            c.close()
        end = time.time() + 10
        while s.curl("/embed", data=body, headers=JSON).status == 429:
            assert time.time() < end
            time.sleep(0.05)
        assert "likeness_body_memory_bytes 0\n" in s.curl("/metrics").body.decode()


def heavy(s, items):
    """Items with 60 kB of metadata each."""
    for i in range(items):
        assert s.curl(f"/items/heavy-{i:03}", data=png((i, 30, 10)), method="PUT").status == 201
        assert s.curl(f"/items/heavy-{i:03}", data=json.dumps({"text": "x" * 60000}).encode(), method="PATCH",
                      headers=JSON).status == 200


def test_an_answer_of_too_many_bytes_is_refused_and_a_page_is_cut():
    with Server("--answer-memory-bytes", "800000", "--max-images", "200") as s:  # 200000 an answer
        heavy(s, 5)
        query = {"id": "heavy-000", "k": 4, "with_metadata": True}
        refused(harness.ask(s, "/neighbors", query), 400, "answer_too_large", message="200000 bytes")
        refused(harness.ask(s, "/neighbors", {"queries": [{**query, "k": 1}] * 4}), 400, "answer_too_large")
        refused(s.curl("/neighbors?id=heavy-000&k=4&with_metadata=true&" +
                       "filter=" + harness.quote('{"must":[{"key":"text","exists":true}]}')), 400, "answer_too_large")
        refused(harness.ask(s, "/embed", {"images": [b64(CAT)] * 128 + [b64(CAT)] * 70}), 400, "answer_too_large")
        assert len(harness.ask(s, "/neighbors", {**query, "with_metadata": False}).json()["neighbors"]) == 4
        assert len(harness.ask(s, "/neighbors", {**query, "k": 1}).json()["neighbors"]) == 1
        seen, after, pages = [], "", 0
        while after is not None:
            page = s.curl(f"/items?limit=5&after={after}").json()
            seen += [item["id"] for item in page["items"]]
            after, pages = page["next"], pages + 1
            assert len(page["items"]) <= 3
        assert seen == [f"heavy-{i:03}" for i in range(5)] and pages >= 2, (seen, pages)
        harness.wait_until(lambda: "likeness_answer_memory_bytes 0\n" in s.curl("/metrics").body.decode())


def test_answers_that_nobody_takes_fill_their_memory_and_no_more():
    with Server("--answer-memory-bytes", "16M", "--no-log-requests") as s:
        heavy(s, 60)  # 3.6 MB with all of them: found, and in the answer
        target = "/items?limit=55"
        held = []
        for _ in range(4):
            c = socket.socket()
            c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            c.connect(("127.0.0.1", s.port))
            c.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            held.append(c)
        harness.wait_until(lambda: float(re.search(r"likeness_answer_memory_bytes ([0-9.e+]+)",
                                                   s.curl("/metrics").body.decode()).group(1)) > 13e6)
        query = {"id": "heavy-000", "k": 33, "with_metadata": True}
        answer = harness.ask(s, "/neighbors", query)
        refused(answer, 429, "overloaded", message="answers in memory")
        assert int(answer.headers["retry-after"]) >= 1
        assert harness.ask(s, "/neighbors", {**query, "with_metadata": False}).status == 200  # what is small goes on
        for c in held:
            c.close()
        harness.wait_until(lambda: harness.ask(s, "/neighbors", query).status == 200)


def test_bodies_of_every_size_arrive_whole():
    with Server("--max-body-bytes", "2M", "--max-json-values", "1000") as s:
        for n in (1, 65535, 65536, 65537, 262143, 262144, 262145, 700001, 1048577):
            for chunked in ([], ["Transfer-Encoding: chunked"]):
                body = b'{"images": ["' + b"A" * n + b'"]}'
                answer = s.curl("/embed", data=body, headers=JSON + chunked)
                assert answer.status == 200 and "error" in answer.json()["embeddings"][0], (n, chunked, answer)
                cut = s.curl("/embed", data=body[:-1], headers=JSON + chunked)
                refused(cut, 400, "invalid_json")


harness.main(globals())
