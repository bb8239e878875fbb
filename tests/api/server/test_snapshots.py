"""Is a snapshot that is made under load one whole state, can it be fetched, and does a server started on it serve it?"""
import json
import pathlib
import sqlite3
import tempfile
import threading
import time

import harness
from harness import SANITIZED, Server, png


def make(s, *options):
    answer = s.curl("/snapshots", *options, method="POST")
    assert answer.status == 201, answer
    made = answer.json()
    assert answer.headers["location"] == "/snapshots/" + made["name"]
    return made


def neighbours(s, item):
    return s.curl(f"/neighbors?id={item}&k=5&with_metadata=true").json()["neighbors"]


def test_a_snapshot_is_listed_fetched_and_removed():
    with Server() as s:
        assert s.curl("/snapshots").json() == {"snapshots": []}
        for i in range(5):
            s.put(f"i{i}", png((40 * i, 30, 200 - 20 * i)), {"n": i})
        made = make(s)
        assert made["items"] == 5 and made["seq"] == 5, made
        listed = s.curl("/snapshots").json()["snapshots"]
        assert listed == [{k: made[k] for k in ("name", "bytes", "created")}], (listed, made)
        file = s.curl("/snapshots/" + made["name"])
        assert file.status == 200 and len(file.body) == made["bytes"] and file.body[:15] == b"SQLite format 3"
        assert file.headers["content-type"] == "application/vnd.sqlite3"
        lying = s.folder / "catalogue.db.snapshots" / made["name"]
        assert lying.read_bytes() == file.body
        second = make(s)
        assert [x["name"] for x in s.curl("/snapshots").json()["snapshots"]] == [made["name"], second["name"]]
        assert s.curl("/snapshots/" + made["name"], method="DELETE").status == 204
        assert s.curl("/snapshots/" + made["name"], method="DELETE").status == 404
        assert s.curl("/snapshots/" + made["name"]).status == 404
        assert not lying.exists()


def test_no_name_reaches_another_file():
    with Server() as s:
        made = make(s)
        folder = s.folder / "catalogue.db.snapshots"
        (folder / "other.db").write_bytes(b"private")
        (folder / "catalogue-20260101T000000.000Z.db").symlink_to(s.folder / "catalogue.db")
        (folder / "catalogue-20260101T000000.001Z.db").mkdir()
        (folder / (made["name"] + ".part")).write_bytes(b"half")
        for name in ("other.db", "..", ".", "..%2Fcatalogue.db", "%2Fetc%2Fpasswd", "catalogue.db",
                     made["name"] + "%00", made["name"] + ".part", made["name"][:-1], "x" + made["name"],
                     "catalogue-20260101T000000.000Z.db", "catalogue-20260101T000000.001Z.db",
                     "..%2Fcatalogue.db.snapshots%2F" + made["name"], "a" * 3000):
            assert s.curl("/snapshots/" + name).status == 404, name
        assert s.curl("/snapshots/other.db", method="DELETE").status == 404
        assert s.curl("/snapshots/" + made["name"] + "?x=1").status == 400
        assert s.curl("/snapshots?x=1", method="POST").status == 400
        assert [x["name"] for x in s.curl("/snapshots").json()["snapshots"]] == [made["name"]]
        assert (folder / "other.db").exists() and (s.folder / "catalogue.db").exists()


def test_a_server_started_on_a_snapshot_serves_that_state():
    with tempfile.TemporaryDirectory() as elsewhere, Server("--snapshot-folder", elsewhere + "/a/b") as s:
        for i in range(8):
            s.put(f"i{i}", png((30 * i, 250 - 30 * i, 77)), {"n": i})
        s.curl("/items/i3", method="DELETE")
        before = {f"i{i}": neighbours(s, f"i{i}") for i in (0, 1, 7)}
        made = make(s)
        s.put("later", png((1, 2, 3)))
        s.curl("/items/i0", method="DELETE")
        restored = tempfile.TemporaryDirectory()
        body = s.curl("/snapshots/" + made["name"]).body
        (pathlib.Path(restored.name) / "catalogue.db").write_bytes(body)
        with Server(folder=restored.name) as copy:
            assert {item: neighbours(copy, item) for item in before} == before
            assert copy.curl("/items/later").status == 404 and copy.curl("/items/i3").status == 404
            assert copy.put("i9", png((5, 5, 5))).status == 201
        restored.cleanup()


def test_under_writes_a_snapshot_holds_all_up_to_its_seq_and_nothing_fails():
    """Writers go on; every acknowledged write with a seq up to the snapshot's is in it, none above."""
    stop = threading.Event()
    failures, acknowledged = [], []

    def write(s, number):
        connection = s.connection()
        count = 0
        while not stop.is_set():
            item = f"w{number}-{count % 10}"
            connection.request("PUT", f"/items/{item}", png((number * 50, count % 256, 9)))
            answer = connection.getresponse()
            body = json.loads(answer.read())
            if answer.status not in (200, 201):
                failures.append(body)
            acknowledged.append((body["seq"], item))
            count += 1

    with Server() as s:
        threads = [threading.Thread(target=write, args=(s, n)) for n in range(3)]
        for t in threads:
            t.start()
        made = []
        for _ in range(3 if SANITIZED else 8):
            time.sleep(0.05)
            made.append(make(s))
        stop.set()
        for t in threads:
            t.join()
        assert not failures, failures[:3]
        assert len(acknowledged) > 20
        for snapshot in made:
            db = sqlite3.connect(f"file:{s.folder}/catalogue.db.snapshots/{snapshot['name']}?immutable=1", uri=True)
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            found = dict(db.execute("SELECT id, seq FROM items"))
            latest = {}
            for seq, item in sorted(acknowledged):
                if seq <= snapshot["seq"]:
                    latest[item] = seq
            assert found == latest, (snapshot, found, latest)
            db.close()


def test_of_two_at_once_one_is_refused():
    """A snapshot of some megabytes; the second is asked for while the first is made."""
    with Server() as s:
        noise = bytes(range(256)) * 40
        for i in range(24):  # stored as they come: pictures may have any bytes behind their end
            s.put(f"big{i}", png((i, i, i)) + bytes([i]) + noise * 60)
        results = []

        def ask():
            results.append(s.curl("/snapshots", method="POST"))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        status = sorted(r.status for r in results)
        assert status[0] == 201 and set(status) <= {201, 409} and 409 in status, status
        refused = [r for r in results if r.status == 409][0]
        assert refused.json()["error"]["code"] == "conflict"
        assert make(s)["items"] == 24


if __name__ == "__main__":
    harness.main(globals())
