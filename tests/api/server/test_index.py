"""Does a server with a graph (--index hnsw) answer as an exact one does, and come back with it after a stop and a kill?"""
import signal

import harness
from harness import Server, png, wait_until

PICTURES = {f"p{i:03}": png((i * 67 % 256, i * 151 % 256, i * 29 % 256)) for i in range(300)}
HNSW = ("--index", "hnsw", "--hnsw-unlinked", "50", "--hnsw-m", "8", "--no-log-requests")
NAMES = ("p001", "p050", "p123", "p299")


def index_of(s):
    return s.curl("/model").json()["index"]


def neighbours(s, k=10):
    answers = []
    for name in NAMES:
        answer = s.curl(f"/neighbors?id={name}&k={k}")
        assert answer.status == 200, answer
        answers.append([(n["id"], n["score"]) for n in answer.json()["neighbors"]])
    return answers


def check_near(found, exact):
    right = 0
    for some, all_of_them in zip(found, exact):
        assert len(some) == len(all_of_them)
        right += sum(score >= all_of_them[-1][1] - 1e-6 for _, score in some)
        assert some == sorted(some, key=lambda n: (-n[1], n[0].encode()))
    assert right >= 0.95 * sum(map(len, exact)), (found, exact)


def fill(s):
    assert all(line["status"] == 201 for line in s.upload(PICTURES).lines())
    wait_until(lambda: index_of(s)["linked"] >= 200)
    wait_until(lambda: "is kept in" in s.log())


def test_a_stop_keeps_the_graph_and_the_catalogue_is_right():
    with Server(*HNSW) as s:
        fill(s)
        assert index_of(s)["kind"] == "hnsw"
        before = neighbours(s)
        s.stop()
        with Server("--no-log-requests", folder=s.folder) as exact:
            assert index_of(exact) == {"kind": "flat", "tombstones": 0, "linked": 0}
            check_near(before, neighbours(exact))
            for i in range(0, 40, 2):  # written by a server that does not know the graph
                assert exact.curl(f"/items/p{200 + i}", method="DELETE").status == 204
            assert exact.put("p123", png((255, 0, 255))).status == 200
            assert exact.put("new", png((254, 1, 250))).status == 201
            want = neighbours(exact)
            everything = neighbours(exact, 1000)
        with Server(*HNSW, folder=s.folder) as again:
            assert "is as it was written" in again.log() and "brought up to date" in again.log()
            assert index_of(again)["linked"] >= 200
            check_near(neighbours(again), want)
            assert neighbours(again, 1000) == everything
            assert again.curl("/neighbors?id=p123&k=1").json()["neighbors"][0]["id"] == "new"


def test_a_kill_loses_neither_items_nor_the_graph():
    with Server(*HNSW) as s:
        fill(s)
        assert s.put("last", png((7, 77, 177))).status == 201
        assert s.curl("/items/p100", method="DELETE").status == 204
        everything = neighbours(s, 1000)
        s.process.send_signal(signal.SIGKILL)
        s.process.wait()
        with Server(*HNSW, folder=s.folder) as again:
            assert index_of(again)["linked"] >= 200 and "is as it was written" in again.log()
            assert neighbours(again, 1000) == everything
            again.alive()


def test_a_damaged_file_is_a_line_in_the_log():
    with Server(*HNSW) as s:
        fill(s)
        everything = neighbours(s, 1000)
        s.stop()
        path = s.folder / "catalogue.db.hnsw"
        whole = path.read_bytes()
        for damaged in (whole[:len(whole) // 2], whole[:5000] + b"?" + whole[5001:], b"", b"\0" * 100000):
            path.write_bytes(damaged)
            with Server(*HNSW, folder=s.folder) as again:
                assert "is not used, and built again" in again.log()
                assert neighbours(again, 1000) == everything
                wait_until(lambda: index_of(again)["linked"] >= 200)
                check_near(neighbours(again), [n[:10] for n in everything])
            assert path.stat().st_size > 4096
            again.log_path.write_text("")


def test_another_model_does_not_use_the_graph():
    with Server(*HNSW) as s:
        fill(s)
        s.stop()
        with Server(*HNSW, folder=s.folder, model="tiny-2.safetensors") as other:
            assert "it is of another space" in other.log()
            wait_until(lambda: index_of(other)["linked"] >= 200)
            assert len(neighbours(other, 1000)[0]) == len(PICTURES) - 1


harness.main(globals())
