"""Is a request answered the same whatever came before it? The server keeps the memory of requests that are over for
later ones, so one that failed, was refused, streamed, or left in the middle must leave nothing of itself behind."""
import json
import random
import socket
import threading

import harness
from harness import JSON, SANITIZED, Server, png, quote

ROUNDS, CLIENTS = (40 if SANITIZED else 100), 4
TYPE = dict([JSON[0].split(": ")])
OTHER_EACH_TIME = {"date", "x-request-id"}


def requests(vector):
    picture, other = png((200, 30, 10)), png((10, 130, 10), 150, 90)
    broken = picture[:-20]
    many = {"queries": [{"id": "i1"}, {"id": "absent"}, {"vector": vector, "k": 2}], "k": 3}
    where = quote(json.dumps({"n": {"$gte": 4}}))
    return [
        ("GET", "/livez", None, {}),
        ("GET", "/nothing?a=b&c=%20", None, {}),
        ("GET", "/items/%zz", None, {}),
        ("DELETE", "/neighbors", None, {}),
        ("GET", "/items/i3", None, {}),
        ("HEAD", "/items/i3", None, {}),
        ("GET", "/items/absent", None, {}),
        ("GET", "/items?limit=3", None, {}),
        ("GET", "/items/i3/image", None, {}),
        ("HEAD", "/items/i3/image", None, {}),
        ("GET", "/neighbors?id=i3&k=5", None, {}),
        ("GET", "/neighbors?id=i4&k=29&with_metadata=false", None, {}),
        ("GET", "/neighbors?id=i4&k=3&filter=" + where, None, {}),
        ("GET", "/neighbors?id=absent", None, {}),
        ("GET", "/neighbors?id=i3&k=none", None, {}),
        ("HEAD", "/neighbors?id=i3", None, {}),
        ("POST", "/neighbors", json.dumps({"vector": vector, "k": 4}), TYPE),
        ("POST", "/neighbors", json.dumps({"vector": vector[1:]}), TYPE),
        ("POST", "/neighbors", json.dumps(many), TYPE),
        ("POST", "/neighbors?k=5", picture, {}),
        ("POST", "/embed", picture, {}),
        ("POST", "/embed", other, {"Accept": "application/x-npy"}),
        ("POST", "/embed", broken, {}),
        ("POST", "/embed", b"no picture", {}),
        ("POST", "/embed", "{", TYPE),
        ("PUT", "/items/new", broken, {}),
        ("PATCH", "/items/i3", "[]", TYPE),
        ("GET", "/export?after=0", None, {}),
    ]


def answer(connection, request):
    method, target, body, headers = request
    connection.request(method, target, body=body, headers=headers)
    got = connection.getresponse()
    return got.status, {k.lower(): v for k, v in got.getheaders() if k.lower() not in OTHER_EACH_TIME}, got.read()


def same(a, b):
    """Numbers need not be the same to the bit: what else was in its batch may change the last ones of a vector."""
    if isinstance(a, float) and isinstance(b, (int, float)):
        return abs(a - b) < 1e-4
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    return a == b


def check(request, expected, got):
    name = f"{request[0]} {request[1]}"
    lengths = {"content-length"} if request[1] in ("/embed", "/neighbors?k=5") else set()  # digits of numbers
    for headers in (expected[1], got[1]):
        for key in lengths:
            headers.pop(key, None)
    assert got[:2] == expected[:2], (name, got[:2], expected[:2])
    if got[1].get("content-type") == "application/json" and got[2]:
        assert same(json.loads(expected[2]), json.loads(got[2])), (name, got[2], expected[2])
    elif "npy" in got[1].get("content-type", ""):
        assert (len(got[2]), got[2][:64]) == (len(expected[2]), expected[2][:64]), (name, got[2][:64])
    else:
        assert got[2] == expected[2], (name, got[2][:300], expected[2][:300])


def leave(port, picture, where):
    """A client that goes away: in its headers, in its body, while it waits, or with an answer in pieces on the way."""
    body = b"POST /embed?from=elsewhere HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(picture) + picture
    whole = body.replace(b"?from=elsewhere", b"")
    with socket.create_connection(("127.0.0.1", port)) as s:
        if where == 0:
            s.sendall(body[:40])
        elif where == 1:
            s.sendall(whole[:-30])
        elif where == 2:
            s.sendall(whole)
        elif where == 3:
            s.sendall(b"GET /export HTTP/1.1\r\nHost: x\r\n\r\n")
            s.recv(10)
        else:
            s.sendall(body + whole + b"GET /items/i5 HTTP/1.1\r\nHost: x\r\n\r\n")
            s.recv(10)


def test_a_request_is_answered_the_same_whatever_came_before_it():
    with Server() as s:
        for i in range(30):
            assert s.put(f"i{i}", png((8 * i, 255 - 8 * i, 40)), {"n": i, "text": "x" * 50 * i}).status == 201
        asked = requests(s.embed(png((90, 90, 200))))
        expected = [answer(s.connection(), request) for request in asked]
        assert {e[0] for e in expected} >= {200, 400, 404, 405, 415, 422}, {e[0] for e in expected}
        failures = []

        def client(number):
            order = random.Random(number)
            connection = s.connection()
            try:
                for i in range(ROUNDS):
                    if order.random() < 0.1:
                        leave(s.port, png((i, 2 * i, 200 - i), 100, 80), order.randrange(5))
                    which = order.randrange(len(asked))
                    check(asked[which], expected[which], answer(connection, asked[which]))
                connection.close()
            except Exception as error:  # noqa: BLE001: told below
                failures.append(error)

        threads = [threading.Thread(target=client, args=(n,)) for n in range(CLIENTS)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not failures, failures
        s.alive()


if __name__ == "__main__":
    harness.main(globals())
