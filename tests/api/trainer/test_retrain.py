"""Does the loop close: pictures and weights from a real server, training, publishing, the switch?"""
import json
import pathlib
import tempfile

from harness import SAMPLES, Server, main
from run import SMALL, retrain, trainer


def pictures(count=60):
    """Of six classes, ten each; every sixth has no class."""
    chosen = [p for i, p in enumerate(SAMPLES) if i % 100 < 10][:count]
    return {f"{p.parent.name}/{p.name}": p for p in chosen}


def fill(server):
    for i, (name, path) in enumerate(pictures().items()):
        metadata = {"class": path.parent.name, "n": i} if i % 6 else {"n": i}
        assert server.put(name, path.read_bytes(), metadata).status == 201


def test_the_loop_closes():
    with tempfile.TemporaryDirectory() as folder, Server() as s:
        fill(s)
        name, path = next(iter(pictures().items()))
        before, vector = s.curl("/model").json(), s.embed(path.read_bytes())
        log = retrain(folder, s.base, "--epochs", "1", "--label-field", "class", "--out", "new.safetensors")
        assert f"server     {s.base} serves tiny, generation {before['generation']}" in log, log
        assert "pictures   60 for training, 0 test, 6 classes" in log, log
        assert "50 training pictures against the other 49" in log, log  # those with a class
        assert "epoch 0 (given weights)" in log and "compared   kNN" in log, log
        run = pathlib.Path(folder) / "new.run"
        for weights, when in ((run / "served.safetensors", "epoch 0"), ("new.safetensors", "epoch 1/1")):
            said = json.loads(trainer(folder, "knn", "--model", weights, "--data", run / "export.tar", "--label-field",
                                      "class", "--k", "5", "--image-size", "16", "--device", "cpu", "--json"))
            line = next(line for line in log.splitlines() if line.startswith(when))
            assert f"kNN {said['knn']:.2f} %  1-NN {said['nn1']:.2f} %" in line, (line, said)
        after = s.curl("/model").json()
        assert after["generation"] > before["generation"] and after["space"] != before["space"], (before, after)
        assert after["model"] == before["model"] == "tiny", (before, after)
        assert f"as generation {after['generation']}" in log, log
        changed = s.embed(path.read_bytes())
        assert max(abs(a - b) for a, b in zip(vector, changed)) > 1e-3
        found = s.curl("/neighbors?k=5", data=path.read_bytes()).json()
        assert found["generation"] == after["generation"]
        assert found["neighbors"][0]["id"] == name and found["neighbors"][0]["score"] > 0.999, found
        # The served file is the published one, byte for byte, and the next round begins with it.
        assert s.curl("/model/weights").body == (pathlib.Path(folder) / "new.safetensors").read_bytes()
        assert {"served.safetensors", "export.tar", "run.json", "report.html", "checkpoint.lk"} <= {
            p.name for p in run.iterdir()}
        assert json.loads((run / "run.json").read_text())["run"]["status"] == "finished"
        log = retrain(folder, s.base, "--epochs", "1", "--out", "next.safetensors", "--seed", "3")
        assert f"serves tiny, generation {after['generation']}" in log and "compared   alignment" in log, log
        assert s.curl("/model").json()["generation"] > after["generation"]
        s.alive()


def test_not_published_until_it_is_asked_for():
    with tempfile.TemporaryDirectory() as folder, Server() as s:
        fill(s)
        before = s.curl("/model").json()
        log = retrain(folder, s.base, "--epochs", "1", "--no-publish")
        assert "kept       retrained.safetensors" in log, log
        assert s.curl("/model").json()["generation"] == before["generation"]
        assert s.curl("/model/status").json()["state"] == "idle"
        # Nothing is fetched again, or trained: the weights that are there go out, whatever was added meanwhile.
        s.put("later", SAMPLES[-1].read_bytes())
        weights = (pathlib.Path(folder) / "retrained.safetensors").read_bytes()
        log = trainer(folder, "retrain", "--resume", "--run-dir", "retrained.run")
        assert "published  " in log, log
        assert s.curl("/model").json()["generation"] > before["generation"]
        assert s.curl("/model/weights").body == weights
        log = retrain(folder, s.base, "--epochs", "1", "--no-publish", "--overwrite")
        assert "61 for training" in log, log  # a new run fetches anew


def test_catalogue_export_and_server_are_the_same_pictures():
    with tempfile.TemporaryDirectory() as folder, Server() as s:
        fill(s)
        export = pathlib.Path(folder) / "export.tar"
        export.write_bytes(s.curl("/export").body)
        names, hashes = set(), set()
        for i, place in enumerate((s.folder / "catalogue.db", export, s.base)):  # the catalogue beside its writer
            trainer(folder, "embed", "--model", s.model, "--data", place, "--device", "cpu", "--precision", "fp32",
                    "--out", f"{i}.npy")
            names.add((pathlib.Path(folder) / f"{i}.txt").read_text())
            hashes.add((pathlib.Path(folder) / f"{i}.npy").read_bytes())
            log = trainer(folder, "knn", "--model", s.model, "--data", place, "--label-field", "class", "--k", "5",
                          "--device", "cpu", "--json")
            assert json.loads(log)["bank"] == 50, log
        assert len(names) == len(hashes) == 1, names
        assert names.pop().splitlines() == sorted(pictures())
        log = trainer(folder, "pretrain", "--data", s.folder / "catalogue.db", *SMALL, "--width", "8", "--epochs", "1",
                      "--batch", "30", "--out", "c.safetensors")
        assert "60 for training (no labels)" in log, log
        log = trainer(folder, "knn", "--model", s.model, "--data", export, "--device", "cpu", expect=1)
        assert "--label-field names the field" in log, log
        log = trainer(folder, "knn", "--model", s.model, "--data", export, "--label-field", "colour", expect=1)
        assert "0 of 60 items have that field" in log, log


main(globals())
