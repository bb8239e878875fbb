"""Is every failure on the way told clearly, with nothing half-written left? Against servers that are made to fail."""
import contextlib
import hashlib
import http.server
import io
import json
import pathlib
import socket
import subprocess
import tarfile
import tempfile
import threading

from harness import BIN, SAMPLES, main
from run import retrain, trainer


def export(pictures=SAMPLES[::40]):
    """A tar as GET /export sends it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for i, path in enumerate(pictures):
            for name, data in ((f"items/p{i:03}.json", json.dumps({"id": f"p{i:03}", "metadata": {}}).encode()),
                               (f"images/p{i:03}", path.read_bytes())):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


class Fake(http.server.BaseHTTPRequestHandler):
    """Answers from server.answers: {"GET /model": (status, body[, headers])}; a list is used up one by one. A header
    Content-Length that is too large cuts the answer."""
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command + " " + self.path, self.headers.get("Authorization"), body))
        entry = self.server.answers.get(self.command + " " + self.path, (404, {"error": {"message": "no such route"}}))
        if isinstance(entry, list):
            entry = entry.pop(0) if len(entry) > 1 else entry[0]
        if entry is None:  # gone
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, content, headers = (*entry, {})[:3]
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = "Content-Length" in headers

    do_GET = do_PUT = answer

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def fake(**changes):
    """A server that does everything right, but for the changes: fake(put_model=(422, ...))."""
    with tempfile.TemporaryDirectory() as folder:
        model = pathlib.Path(folder) / "tiny.safetensors"
        subprocess.run([str(BIN.parent / "tests/bin/make_model"), str(model)], check=True)
        weights = model.read_bytes()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Fake)
    server.seen = []
    server.answers = {
        "GET /model": (200, {"model": "tiny", "generation": 7}),
        "GET /model/weights": (200, weights, {"ETag": f'"{hashlib.sha256(weights).hexdigest()}"'}),
        "GET /export": (200, export()),
        "PUT /model": (202, {"operation": 4, "state": "loading"}),
        "GET /model/status": [(200, {"operation": 4, "state": "embedding", "items": 25, "embedded": 5}),
                              (200, {"operation": 4, "state": "done", "failed": 0, "to_generation": 8})],
    }
    server.answers.update({key.replace("_", " /", 1).replace("__", "/"): value for key, value in changes.items()})
    server.answers = {key.split(" ")[0].upper() + " " + key.split(" ")[1]: v for key, v in server.answers.items()}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield server, pathlib.Path(folder)
    finally:
        server.shutdown()
        server.server_close()


def fails(says, *arguments, **changes):
    """retrain fails with that sentence before it trains, and leaves no half file."""
    with fake(**changes) as (server, folder):
        log = retrain(folder, server.url, "--epochs", "1", *arguments, expect=1)
        assert says in log, log
        left = {p.name for p in folder.rglob("*") if p.is_file()}
        assert left <= {"served.safetensors", "export.tar"} and not any("tmp" in name for name in left), left
        return left, log


def not_published(says, **changes):
    """retrain trains, fails to publish with that sentence, keeps the weights and says how to go on by hand."""
    with fake(**changes) as (server, folder):
        log = retrain(folder, server.url, "--epochs", "1", expect=1)
        assert says in log, log
        assert f"curl -T retrained.safetensors {server.url}/model" in log, log
        assert "retrain --resume --run-dir retrained.run" in log, log
        assert (folder / "retrained.safetensors").exists()
        assert json.loads((folder / "retrained.run/run.json").read_text())["run"]["status"] == "finished"


def test_all_right_with_a_key():
    with fake() as (server, folder):
        (folder / "key").write_text("  s3cret\nanother line\n")
        log = retrain(folder, server.url, "--epochs", "1", "--key-file", "key")
        assert "serves tiny as generation 8" in log, log
        assert {key for _, key, _ in server.seen} == {"Bearer s3cret"}, server.seen
        sent = next(body for what, _, body in server.seen if what == "PUT /model")
        assert sent == (folder / "retrained.safetensors").read_bytes()
        assert "batch 24, 1 epochs of 1 steps" in log, log  # 25 pictures, fewer than the usual batch
        log = trainer(folder, "retrain", "--server", server.url, expect=1)
        assert "--overwrite begins anew" in log, log


def test_wrong_uses_are_refused():
    with tempfile.TemporaryDirectory() as folder:
        for command, says in (("retrain", "--server is missing"), ("pretrain", "--data is missing"),
                              ("knn", "--model is missing"), ("embed", "--model is missing"), ("inspect", "name one file")):
            assert f"likeness-trainer {command}: {says}" in trainer(folder, command, expect=2)
            assert "unknown option --nope" in trainer(folder, command, "--nope", expect=2)
        assert "no server's URL" in trainer(folder, "retrain", "--server", "localhost:8080", expect=1)
        (pathlib.Path(folder) / "empty").write_text("\n")
        log = trainer(folder, "retrain", "--server", "http://127.0.0.1:9", "--key-file", "empty", expect=1)
        assert "empty holds no key" in log, log
        log = trainer(folder, "retrain", "--server", "http://127.0.0.1:9", expect=1)  # the discard port: nobody is there
        assert "GET http://127.0.0.1:9/model" in log and "onnect" in log, log


def test_a_key_that_is_missing_or_wrong():
    refusal = (401, {"error": {"code": "unauthorized", "message": "a key is needed", "param": None}})
    _, log = fails("status 401: a key is needed", get_model=refusal)
    assert "give a key by --key-file FILE" in log, log
    with fake(get_export=(403, {"error": {"message": "this key may only read"}})) as (server, folder):
        (folder / "key").write_text("k")
        log = retrain(folder, server.url, "--key-file", "key", expect=1)
        assert "this key may only read; the key of --key-file lacks the role" in log, log


def test_somebody_else_answers():
    fails("/model: no JSON", get_model=(200, b"<html>hello</html>"))
    fails("not the answer of a likeness-server", get_model=(200, {"name": "other"}))
    fails("status 302", get_model=(302, b"", {"Location": "http://127.0.0.1:1/"}))


def test_weights_that_are_cut_changed_or_broken():
    left, _ = fails("/model/weights", get_model__weights=(200, b"x" * 100, {"Content-Length": "5000"}))
    assert left == set(), left
    left, _ = fails("and should have " + "0" * 64, get_model__weights=(200, b"abc", {"ETag": '"' + "0" * 64 + '"'}))
    assert left == set(), left
    fails("served.safetensors", get_model__weights=(200, b"no weights at all, but whole"))
    fails("leave the option out", "--width", "16")


def test_an_export_that_is_cut_or_none():
    whole = export()
    left, _ = fails("/export", get_export=(200, whole[:9000], {"Content-Length": str(len(whole))}))
    assert left == {"served.safetensors"}, left
    fails("cut short", get_export=(200, whole.rstrip(b"\0") + b"\0" * 600))
    fails("cut short", get_export=(200, whole[:5120]))
    fails("neither a folder nor", get_export=(200, b"what is this"))
    fails("no picture", get_export=(200, b"\0" * 1024))
    fails("GET", get_export=None)
    fails("status 429: later", get_export=(429, {"error": {"message": "later"}}))


def test_a_publication_that_is_refused():
    not_published("status 422: not a network that we know", put_model=(422, {"error": {"message": "not a network that we "
                                                                                                  "know"}}))
    not_published("status 409: another publication runs", put_model=(409, {"error": {"message": "another publication "
                                                                                                "runs"}}))


def test_a_publication_that_fails_or_is_lost():
    not_published("the disk is full", get_model__status=(200, {"operation": 4, "state": "failed", "error": "the disk is "
                                                                                                           "full"}))
    not_published("started again meanwhile", get_model__status=(200, {"operation": 0, "state": "idle"}))
    not_published("another publication has begun", get_model__status=(200, {"operation": 5, "state": "loading"}))


def test_a_server_that_is_away_for_a_moment_while_it_publishes():
    done = (200, {"operation": 4, "state": "done", "failed": 2, "to_generation": 9})
    with fake(get_model__status=[None, (503, {"error": {"message": "busy"}}), done]) as (server, folder):
        log = retrain(folder, server.url, "--epochs", "1")
        assert "generation 9" in log and "2 items could not be embedded again" in log, log


main(globals())
