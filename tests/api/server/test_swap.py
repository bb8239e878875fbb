"""Does a server that switches models under load ever fail a request, mix two generations in an answer, or lose a write?

    test_swap.py [--swaps 100] [--rounds 50] [--strict] [TEST ...]

A picture's vector tells which model made it, so every answer is held against the vectors of the generation that it names.
--strict also holds the 99th percentile of the latency during a publication to three times that before it; without, the
bound is loose, since a test machine does other things too.
"""
import http.client
import json
import os
import random
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time

import harness
from harness import Server, cosine, model_file, png, wait_until


def option(name, default):
    if name not in sys.argv:
        return default
    at = sys.argv.index(name)
    value = int(sys.argv[at + 1])
    del sys.argv[at:at + 2]
    return value


STRICT = "--strict" in sys.argv
if STRICT:
    sys.argv.remove("--strict")
SWAPS = option("--swaps", 4 if harness.SANITIZED else 20)
ROUNDS = option("--rounds", 2 if harness.SANITIZED else 4)
PICTURES = [png((37 * i % 256, 91 * i % 256, 13 * i % 256)) for i in range(16)]
KNOWN = {f"known-{i}": i for i in range(16)}  # items that are always there
MODELS = ("tiny.safetensors", "tiny-2.safetensors")
CLOSE = 2e-4
EVERYTHING = 100_000  # a k that no catalogue here reaches
KEPT = 100  # items of each writer
WIDE = ("--no-log-requests", "--max-k", str(EVERYTHING))


class Truth:
    """What each model makes of each picture: of a server that never swaps."""

    def __init__(self):
        self.vectors = []
        for model in MODELS:
            with Server(*WIDE, model=model) as s:
                self.vectors.append([s.embed(p) for p in PICTURES])
        same = max(cosine(a, b) for a, b in zip(*self.vectors))
        assert same < 0.99, f"the models are too alike to be told apart: {same}"
        self.scores = [[[cosine(a, b) for b in v] for a in v] for v in self.vectors]

    def check_vector(self, vector, picture, model):
        assert cosine(vector, self.vectors[model][picture]) > 0.9999, "the vector is another generation's"

    def check_hits(self, hits, picture, items, model):
        """Scores of the items whose pictures we know, against the vectors of that model."""
        for hit in hits:
            if hit["id"] in items:
                want = self.scores[model][picture][items[hit["id"]]]
                assert abs(hit["score"] - want) < CLOSE, (hit, want, "scored in another generation")


_truth = []


def truth():
    if not _truth:
        _truth.append(Truth())
    return _truth[0]


class Load:
    """Threads that ask everything at once, and judge each answer. Generation n is served by model (n - first) % 2."""

    def __init__(self, server):
        self.s, self.truth = server, truth()
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.errors, self.latencies = [], []  # of latencies: when it ended, seconds, what
        self.asked, self.mismatches = {}, 0
        self.generations = set()
        self.items = dict(KNOWN)  # what has to be there at the end: id -> picture
        self.deleted = set()
        self.threads = []

    def model(self, generation):
        return (generation - 1) % 2

    def start(self):
        jobs = [self.embeds, self.by_image, self.by_id, self.by_vector, self.writes, self.writes, self.lists,
                self.uploads]
        self.threads = [threading.Thread(target=self.run, args=(job, n)) for n, job in enumerate(jobs)]
        for t in self.threads:
            t.start()

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join()

    def run(self, job, n):
        connection = self.s.connection()
        dice = random.Random(n)
        i = 0
        while not self.stopping.is_set():
            try:
                job(connection, n, i, dice)
            except Exception as e:  # noqa: BLE001: whatever it is, it is a failed request
                with self.lock:
                    self.errors.append((job.__name__, repr(e)[:500]))
                if not isinstance(e, AssertionError):
                    connection.close()
                    connection = self.s.connection()
                if len(self.errors) > 50:
                    return
            i += 1
            time.sleep(0.01)  # the machine is kept busy, not full: a latency is then the server's

    def ask(self, c, method, target, body=None, headers=None, expect=(200,), timed=True):
        start = time.monotonic()
        c.request(method, target, body, headers or {})
        answer = c.getresponse()
        data = answer.read()
        end = time.monotonic()
        with self.lock:
            kind = method + " " + target.split("?")[0].split("/")[1]
            self.asked[kind] = self.asked.get(kind, 0) + 1
            if timed:
                self.latencies.append((end, end - start, kind))
        assert answer.status in expect, (method, target, answer.status, data[:300])
        if not data or answer.getheader("Content-Type") != "application/json":
            return answer.status, {}
        parsed = json.loads(data)
        if "generation" in parsed:
            assert answer.getheader("X-Likeness-Generation") == str(parsed["generation"]), "body and header disagree"
            with self.lock:
                self.generations.add(parsed["generation"])
        return answer.status, parsed

    def embeds(self, c, n, i, dice):
        _, a = self.ask(c, "POST", "/embed", PICTURES[i % 16])
        self.truth.check_vector(a["embeddings"][0]["embedding"], i % 16, self.model(a["generation"]))

    def check_neighbors(self, a, picture, exclude=None):
        ids = {hit["id"] for hit in a["neighbors"]}
        missing = set(KNOWN) - ids - {exclude}
        assert not missing, f"items are not found: {missing}"
        self.truth.check_hits(a["neighbors"], picture, KNOWN, self.model(a["generation"]))

    def by_image(self, c, n, i, dice):
        _, a = self.ask(c, "POST", f"/neighbors?k={EVERYTHING}", PICTURES[i % 16])
        self.check_neighbors(a, i % 16)

    def by_id(self, c, n, i, dice):
        _, a = self.ask(c, "GET", f"/neighbors?id=known-{i % 16}&k={EVERYTHING}")
        self.check_neighbors(a, i % 16, f"known-{i % 16}")

    def by_vector(self, c, n, i, dice):
        """The two steps of a client: a vector, and then a query with it that names its generation."""
        _, a = self.ask(c, "POST", "/embed", PICTURES[i % 16])
        query = {"vector": a["embeddings"][0]["embedding"], "generation": a["generation"], "k": EVERYTHING}
        status, b = self.ask(c, "POST", "/neighbors", json.dumps(query), {"Content-Type": "application/json"},
                             (200, 409))
        if status == 409:
            assert b["error"]["code"] == "generation_mismatch", b
            self.mismatches += 1
            return
        assert b["generation"] == a["generation"]
        self.check_neighbors(b, i % 16)

    def writes(self, c, n, i, dice):
        """Added, found at once, replaced, found with the new picture, and half of them deleted."""
        name, picture = f"w{n}-{i}", dice.randrange(16)
        self.ask(c, "PUT", f"/items/{name}", PICTURES[picture], expect=(201,))
        self.look_up(c, name, picture)
        if i % 3 == 0:
            picture = (picture + 1) % 16
            self.ask(c, "PUT", f"/items/{name}", PICTURES[picture], expect=(200,))
            self.look_up(c, name, picture)
        if i % 8:
            self.ask(c, "DELETE", f"/items/{name}", expect=(204,))
            self.ask(c, "GET", f"/neighbors?id={name}", expect=(404,))
            with self.lock:
                self.deleted.add(name)
        else:
            with self.lock:
                self.items[name] = picture
            old = f"w{n}-{i - 8 * KEPT}"
            if old in self.items:
                self.ask(c, "DELETE", f"/items/{old}", expect=(204,))
                with self.lock:
                    del self.items[old]
                    self.deleted.add(old)

    def look_up(self, c, name, picture):
        _, a = self.ask(c, "GET", f"/neighbors?id={name}&k={EVERYTHING}")
        self.check_neighbors(a, picture)

    def lists(self, c, n, i, dice):
        _, a = self.ask(c, "GET", "/items?limit=50")
        assert a["items"]

    def uploads(self, c, n, i, dice):
        """POST /items of more than one group, which may begin before a switch and end behind it."""
        parts, names = b"", {}
        for k in range(70):
            name = f"u{i % 2}-{k}"
            names[name] = dice.randrange(16)
            parts += (f'--x\r\nContent-Disposition: form-data; name="p"; filename="{name}"\r\n\r\n'.encode()
                      + PICTURES[names[name]] + b"\r\n")
        c.request("POST", "/items", parts + b"--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"})
        answer = c.getresponse()
        lines = [json.loads(line) for line in answer.read().splitlines()]
        assert answer.status == 200 and len(lines) == 70, (answer.status, lines[:2])
        assert all(line["status"] in (200, 201) for line in lines), lines
        with self.lock:
            self.items.update(names)
            self.asked["POST items"] = self.asked.get("POST items", 0) + 70
        time.sleep(1)


def p99(latencies):
    return sorted(latencies)[int(len(latencies) * 0.99)] if latencies else 0.0


def publish(s, path):
    answer = s.curl("/model", "-T", str(path))
    assert answer.status == 202, answer
    assert answer.headers["location"] == "/model/status"
    return answer.json()["operation"]


def check_all(s, items, deleted=()):
    """Everything that was acknowledged is there and is scored in the generation that serves; brute force agrees."""
    t = truth()
    a = s.curl(f"/neighbors?k={EVERYTHING}", data=PICTURES[5]).json()
    model = (a["generation"] - 1) % 2
    hits = {hit["id"]: hit["score"] for hit in a["neighbors"]}
    assert set(items) <= set(hits), f"lost: {sorted(set(items) - set(hits))[:10]} of {len(items)}"
    assert not set(deleted) & set(hits), f"risen: {sorted(set(deleted) & set(hits))[:10]}"
    t.check_hits(a["neighbors"], 5, items, model)
    want = sorted(((-t.scores[model][5][p], name) for name, p in items.items()))
    got = [(-hit["score"], hit["id"]) for hit in a["neighbors"] if hit["id"] in items]
    assert [round(-w[0], 3) for w in want] == [round(-g[0], 3) for g in got]
    return a["generation"]


def test_swaps_under_load():
    with Server(*WIDE) as s:
        load = Load(s)
        s.upload({name: PICTURES[i] for name, i in KNOWN.items()})
        files = [model_file(s.folder, m) for m in MODELS]
        load.start()
        quiet, swapping = [], []
        try:
            time.sleep(1)  # warm
            for n in range(SWAPS):
                if load.errors:
                    break
                # What was before is measured before each swap: the catalogue grows, and others use the machine too.
                begin = time.monotonic()
                time.sleep(1 if STRICT else 0.3)
                start = time.monotonic()
                quiet.append((begin, start))
                publish(s, files[(n + 1) % 2])
                status = s.published(120)
                swapping.append((start, time.monotonic()))
                assert status["state"] == "done" and status["to_generation"] == n + 2, status
                assert status["failed"] == 0 and not status["unchanged"], status
        finally:
            load.stop()
        by_window = [[(took, kind) for end, took, kind in load.latencies if any(a < end < b for a, b in windows)]
                     for windows in (quiet, swapping)]
        before, during = (p99([took for took, _ in window]) for window in by_window)
        length = sorted(b - a for a, b in swapping)
        print(f"     {len(swapping)} swaps of {length[len(length) // 2]:.2f} s, {sum(load.asked.values())} requests, "
              f"{load.mismatches} told of another generation; p99 {before * 1e3:.1f} ms before, "
              f"{during * 1e3:.1f} ms during a swap ({during / before:.2f}x)")
        print("     requests, and their p99 in ms before and during a swap: " + ", ".join(
            f"{n} {kind}" + "".join(f" {1e3 * p99([took for took, k in window if k == kind]):.1f}" for window in by_window)
            for kind, n in sorted(load.asked.items())))
        assert not load.errors, load.errors[:5]
        assert len(load.items) < EVERYTHING
        assert len(swapping) == SWAPS and load.generations >= set(range(2, SWAPS + 1)), load.generations
        assert check_all(s, load.items, load.deleted) == SWAPS + 1
        assert s.curl("/model").json()["items"] == len(load.items)
        assert during <= (3 if STRICT else 12) * before or (not STRICT and during < 0.5), (before, during)


def vectors_by_space(s):
    with sqlite3.connect(f"file:{s.folder / 'catalogue.db'}?mode=ro", uri=True) as db:
        return dict(db.execute("SELECT name, count(*) FROM vectors JOIN spaces USING (space) GROUP BY name").fetchall())


def test_kill_in_the_middle_of_a_publication():
    dice = random.Random(7)
    with tempfile.TemporaryDirectory() as folder:
        items, deleted = dict(KNOWN), set()
        s = Server(*WIDE, folder=folder)
        s.upload({name: PICTURES[i] for name, i in KNOWN.items()})
        s.upload({f"more-{i}": PICTURES[i % 16] for i in range(150)})
        items.update({f"more-{i}": i % 16 for i in range(150)})
        other, generation, switched = model_file(folder, MODELS[1]), 1, 0
        for number in range(ROUNDS):
            publish(s, model_file(folder, MODELS[generation % 2]))
            stop = threading.Event()

            def write():
                c = s.connection()
                try:
                    for k in range(10000):
                        if stop.is_set():
                            return
                        name, picture = f"r{number}-{k}", k % 16
                        c.request("PUT", f"/items/{name}", PICTURES[picture])
                        answer = c.getresponse()
                        answer.read()
                        assert answer.status == 201, answer.status
                        items[name] = picture
                except (OSError, http.client.HTTPException):
                    pass

            writer = threading.Thread(target=write)
            writer.start()
            time.sleep(dice.uniform(0.02, 3.0))
            os.kill(s.process.pid, signal.SIGKILL)
            stop.set()
            writer.join()
            s.process.wait()
            s.log_file.close()
            s = Server(*WIDE, folder=folder)
            now = check_all(s, items, deleted)
            assert now in (generation, generation + 1), (now, generation)
            switched += now - generation
            generation = now
            kept = [p.name for p in (s.folder / "catalogue.db.models").iterdir()]
            assert len(kept) <= 1 and not any(name.startswith("arriving") for name in kept), kept
        space = s.curl("/model").json()["space"]
        wait_until(lambda: set(vectors_by_space(s)) == {space})
        print(f"     {ROUNDS} kills, {switched} of them behind the switch; {len(items)} items")
        publish(s, model_file(folder, MODELS[generation % 2]))  # and nothing stands in the way of the next one
        assert s.published()["to_generation"] == generation + 1
        check_all(s, items, deleted)
        assert s.stop() == 0
        with Server(*WIDE, folder=folder) as s:  # what was published serves after a clean stop too
            assert check_all(s, items, deleted) == generation + 1
        assert other.exists()


def test_the_next_may_be_published_as_soon_as_one_is_done():
    """Asked in one connection without a pause, so that nothing may still be under way behind `done`."""
    with Server(*WIDE, "--publish-share", "1") as s:
        s.upload({f"n{i}": PICTURES[i % 16] for i in range(600)})
        files = [model_file(s.folder, m).read_bytes() for m in MODELS]
        c = s.connection()

        def ask(method, target, body=None):
            c.request(method, target, body)
            answer = c.getresponse()
            return answer.status, json.loads(answer.read())

        for n in range(6):
            status, answer = ask("PUT", "/model", files[(n + 1) % 2])
            assert status == 202, (n, status, answer)
            end = time.time() + 60
            while answer["state"] not in ("done", "failed"):
                assert time.time() < end, answer
                answer = ask("GET", "/model/status")[1]
            assert answer["state"] == "done", answer


def test_writes_that_meet_a_full_queue_are_found_after_the_switch():
    """Whatever was acknowledged; what was refused with 429 is not asked for. The coming model is a wider and slower one, so
    that its queue is full while that of the model that serves is not."""
    with Server(*WIDE, "--queue", "8", "--max-images", "8", "--max-batch", "4") as s:
        s.upload({name: PICTURES[i] for name, i in KNOWN.items()})
        stop, lock, items, seen = threading.Event(), threading.Lock(), dict(KNOWN), {}

        def write(n):
            c = s.connection()
            k = 0
            while not stop.is_set():
                name, picture = f"w{n}-{k}", (n + k) % 16
                c.request("PUT", f"/items/{name}", PICTURES[picture])
                answer = c.getresponse()
                answer.read()
                with lock:
                    seen[answer.status] = seen.get(answer.status, 0) + 1
                    if answer.status == 201:
                        items[name] = picture
                k += 1
                if answer.status == 429:
                    time.sleep(0.02)

        threads = [threading.Thread(target=write, args=(n,)) for n in range(16)]
        try:
            wide = s.folder / "wide.safetensors"
            subprocess.run([harness.BIN.parent / "tests/bin/make_model", wide, "2", "32"], check=True)
            publish(s, wide)
            [t.start() for t in threads]
            status = s.published(300 if harness.SANITIZED else 120)
        finally:
            stop.set()
            [t.join() for t in threads if t.ident]
        assert status["state"] == "done" and status["failed"] == 0, status
        assert set(seen) <= {201, 429} and seen[201] > 20, seen
        found = s.curl("/model").json()
        assert found["items"] == len(items), (found["items"], len(items))
        print(f"     {seen}")


def overflowing(path):
    """A well-formed model whose every value is finite, and whose vectors are not."""
    raw = bytearray(path.read_bytes())
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + size])
    for name, tensor in header.items():
        if name.endswith(".weight") and len(tensor.get("shape", ())) == 4:
            a, b = (8 + size + at for at in tensor["data_offsets"])
            raw[a:b] = struct.pack("<f", 3e38) * ((b - a) // 4)
    return bytes(raw)


def test_a_model_that_makes_no_vectors_is_not_switched_to():
    for items in (0, 16):
        with Server(*WIDE) as s:
            for name, i in list(KNOWN.items())[:items]:
                s.put(name, PICTURES[i])
            answer = s.curl("/model", data=overflowing(s.model), method="PUT")
            if answer.status == 202:
                status = s.published()
                assert status["state"] == "failed" and status["error"], status
            else:
                assert answer.status == 422 and answer.code == "invalid_model", answer
            assert s.curl("/model").json()["generation"] == 1
            s.alive()
            assert len(s.curl("/neighbors?k=100", data=PICTURES[0]).json()["neighbors"]) == items


def test_pictures_that_cannot_be_read_any_more_do_not_stop_a_publication():
    with tempfile.TemporaryDirectory() as folder:
        with Server(*WIDE, folder=folder) as s:
            s.upload({name: PICTURES[i] for name, i in KNOWN.items()})
        with sqlite3.connect(os.path.join(folder, "catalogue.db")) as db:
            db.execute("UPDATE images SET data = substr(data, 1, 60) WHERE sha256 = "
                       "(SELECT image FROM items WHERE id = 'known-3')")
        with Server(*WIDE, folder=folder) as s:
            publish(s, model_file(folder, MODELS[1]))
            status = s.published()
            assert (status["state"], status["items"], status["embedded"], status["failed"]) == ("done", 16, 15, 1), status
            found = s.curl("/neighbors?k=100", data=PICTURES[0]).json()["neighbors"]
            assert {hit["id"] for hit in found} == set(KNOWN) - {"known-3"}
            assert s.put("known-3", PICTURES[3]).status == 200  # and a new picture heals it
            check_all(s, KNOWN)


harness.main(globals())
