"""Writers that keep a ledger of what the server acknowledged, and the comparison of a server with it.

Each writer has ids of its own, so it knows for each of them the state that the last acknowledged write left, and what a
write without an answer may have left instead. After a kill, a power cut or a full disk, a server must hold one of the two
for every id, and nothing else; its vectors must be those of its pictures, and its neighbours those of its vectors.
"""
import hashlib
import heapq
import http.client
import json
import random
import sqlite3
import struct
import threading

from harness import cosine, png, quote

PICTURES = [png((53 * i % 256, 97 * i % 256, 31 * i % 256), 8, 8) for i in range(12)]
BY_HASH = {hashlib.sha256(p).hexdigest(): i for i, p in enumerate(PICTURES)}
LOST = (http.client.HTTPException, OSError)


class Writer:
    """Writes until the connection breaks. states: id -> (picture, metadata); pending: id -> what may be there instead."""

    def __init__(self, name, seed, ids=12, may_fail=()):
        self.ids = [f"{name}-{i}" for i in range(ids)]
        self.random = random.Random(seed)
        self.states, self.pending = {}, {}
        self.acknowledged = 0
        self.may_fail, self.refused = may_fail, 0  # statuses that say that nothing was written
        self.faults = []

    def run(self, port, limit=None):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            while limit is None or limit > 0:
                self.step(connection)
                limit = limit and limit - 1
        except LOST:
            pass
        except Exception as e:  # noqa: a fault of the test or of the server: told by check()
            self.faults.append(repr(e))
        finally:
            connection.close()

    def start(self, port):
        thread = threading.Thread(target=self.run, args=(port,))
        thread.start()
        return thread

    def step(self, connection):
        item, picture = self.random.choice(self.ids), self.random.randrange(len(PICTURES))
        before = self.states.get(item)
        what = self.random.choice("ppprrmdu")
        if what in "pr":
            metadata = {"v": self.random.randrange(1000)} if what == "p" else None
            after = (picture, metadata if metadata is not None else before[1] if before else {})
            query = "?metadata=" + quote(json.dumps(metadata)) if metadata is not None else ""
            self.ask(connection, item, after, "PUT", f"/items/{item}{query}", PICTURES[picture], (200, 201))
        elif what == "m":
            after = before and (before[0], {**before[1], "m": picture})
            self.ask(connection, item, after, "PATCH", f"/items/{item}", json.dumps({"m": picture}).encode(),
                     (200,) if before else (404,))
        elif what == "d":
            self.ask(connection, item, None, "DELETE", f"/items/{item}", None, (204,) if before else (404,))
        else:
            self.upload(connection)

    def ask(self, connection, item, after, method, target, body, good):
        self.pending = {item: after}
        headers = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else {}
        connection.request(method, target, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        self.settle(item, after, answer.status, good, text)
        self.pending = {}

    def settle(self, item, after, status, good, text):
        if status in good:
            self.acknowledged += 1
            self.states[item] = after
        elif status in self.may_fail:
            self.refused += 1
        else:
            raise AssertionError(f"{item}: {status} {text[:300]!r}")

    def upload(self, connection):
        """POST /items: each line of the answer acknowledges one."""
        items = {item: self.random.randrange(len(PICTURES)) for item in self.random.sample(self.ids, 3)}
        body = b"".join(b'--cut\r\nContent-Disposition: form-data; name="p"; filename="%s"\r\n\r\n%s\r\n'
                        % (item.encode(), PICTURES[p]) for item, p in items.items()) + b"--cut--\r\n"
        after = {item: (p, (self.states.get(item) or (0, {}))[1]) for item, p in items.items()}
        self.pending = dict(after)
        connection.request("POST", "/items", body, {"Content-Type": "multipart/form-data; boundary=cut"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise AssertionError(f"upload: {answer.status} {answer.read()[:300]!r}")
        for line in answer:
            line = json.loads(line)
            self.settle(line["id"], after[line["id"]], line["status"], (200, 201), line)
            del self.pending[line["id"]]
        assert not self.pending, self.pending


def get(connection, target):
    connection.request("GET", target)
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status == 200, (target, answer.status, text[:300])
    return json.loads(text)


def embeddings(server):
    return [server.embed(p) for p in PICTURES]


def check(server, writers, known, searches=2):
    """The server holds what the ledgers say; they are brought up to what it holds. known: embeddings()."""
    for w in writers:
        assert not w.faults, w.faults
    connection = server.connection()
    actual, after = {}, ""
    while after is not None:
        page = get(connection, "/items?limit=100" + ("&after=" + quote(after) if after else ""))
        for item in page["items"]:
            actual[item["id"]] = (BY_HASH[item["sha256"]], item["metadata"])
        after = page["next"]
    for w in writers:
        for item in w.ids:
            found = actual.get(item)
            allowed = [w.states.get(item)] + ([w.pending[item]] if item in w.pending else [])
            assert found in allowed, f"{item} is {found}; it may be {allowed}"
            w.states[item] = found
        w.pending = {}
    assert set(actual) <= {item for w in writers for item in w.ids}, actual
    check_vectors(server, connection, actual, known, searches)
    connection.close()
    return len(actual)


def check_vectors(server, connection, actual, known, searches):
    db = sqlite3.connect(f"file:{server.folder}/catalogue.db?mode=ro", uri=True)
    rows = db.execute("SELECT id, data FROM vectors JOIN items USING (item) JOIN spaces USING (space) WHERE name = "
                      "(SELECT space FROM generations ORDER BY generation DESC LIMIT 1)").fetchall()
    items, = db.execute("SELECT value FROM counters WHERE name = 'items'").fetchone()
    db.close()
    vectors = {item: struct.unpack(f"<{len(data) // 4}f", data) for item, data in rows}
    assert set(vectors) == set(actual) and items == len(actual), (sorted(vectors), sorted(actual), items)
    for item, (picture, _) in actual.items():
        assert cosine(vectors[item], known[picture]) > 0.9999, item
    for item in random.sample(sorted(actual), min(searches, len(actual))):
        got = get(connection, f"/neighbors?id={quote(item)}&k=10")["neighbors"]
        scores = {other: sum(a * b for a, b in zip(vectors[item], v)) for other, v in vectors.items() if other != item}
        want = heapq.nlargest(10, scores.values())
        assert len(got) == len(want) and len({n["id"] for n in got}) == len(got), (got, want)
        for n, score in zip(got, want):  # ids may change places where scores are equal up to rounding
            assert abs(n["score"] - score) < 1e-5 and abs(scores[n["id"]] - score) < 1e-5, (item, got, want)
