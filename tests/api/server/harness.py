"""Starts the real server, asks it with curl, and checks each answer against docs/openapi.json. Standard library only.

A test file defines functions test_...() and ends in  harness.main(globals()) ; words on its command line select tests.
Every request made through Server.curl() is checked: its route and status have to be in the document, an error has to
have the documented shape and a code of the closed list, and X-Request-Id has to be there.
"""
import base64
import http.client
import json
import os
import pathlib
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import zlib

SOURCE = pathlib.Path(os.environ.get("LK_SOURCE_DIR", pathlib.Path(__file__).resolve().parents[3]))
BIN = pathlib.Path(os.environ.get("LK_BIN_DIR", SOURCE / "build/cpu/bin"))
SAMPLES = sorted((SOURCE / "tests/data/cifar10-sample").glob("*/*.jpg"))
DOCUMENT = json.loads((SOURCE / "docs/openapi.json").read_text())
CODES = set(DOCUMENT["components"]["schemas"]["ErrorCode"]["enum"])
PATTERNS = [(re.compile("^" + re.sub(r"\{[^}]*\}", "[^/]+", path) + "$"), path) for path in DOCUMENT["paths"]]
SANITIZED = any(word in (BIN / "likeness-server").read_bytes() for word in (b"__asan_init", b"__tsan_init"))
# TSan does not see into OpenMP: one thread there (tests/tsan.supp).
SINGLE = ["--engine-threads", "1", "--pool-threads", "2"] if os.environ.get("OMP_NUM_THREADS") == "1" else []
codes_seen = {}  # code -> status, of all answers of this run
routes_seen = set()  # (method, pattern) that answered with 2xx


def png(colour, width=32, height=32):
    """A PNG of one colour with a brighter corner, so that it has some structure."""
    rows = b""
    for y in range(height):
        row = b"".join(bytes(min(255, c + (64 if x < width // 2 and y < height // 2 else 0)) for c in colour)
                       for x in range(width))
        rows += b"\0" + row

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def png_header_only(width, height):
    """A small file that claims to be large."""
    whole = png((1, 2, 3), 1, 1)
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return whole[:12] + ihdr + struct.pack(">I", zlib.crc32(ihdr)) + whole[33:]


def b64(data):
    return base64.b64encode(data).decode()


JSON = ["Content-Type: application/json"]


def refused(answer, status, code, param=None, message=""):
    error = answer.json()["error"]
    assert (answer.status, error["code"]) == (status, code), answer
    assert param is None or error["param"] == param, answer
    assert message in error["message"], answer


def ask(s, target, body):
    return s.curl(target, data=body if isinstance(body, bytes) else json.dumps(body).encode(), headers=JSON)


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def lines(self):
        return [json.loads(line) for line in self.body.decode().splitlines()]

    @property
    def code(self):
        return self.json()["error"]["code"]

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


def check_documented(method, target, answer):
    path = target.split("?")[0]
    method = "get" if method.upper() == "HEAD" else method.lower()
    pattern = next((p for regex, p in PATTERNS if regex.match(path)), None)
    kind = answer.headers.get("content-type", "")
    if answer.status >= 400:
        error = answer.json()["error"]
        assert set(error) == {"code", "message", "param"}, error
        assert error["code"] in CODES, error
        assert kind == "application/json", kind
        codes_seen[error["code"]] = answer.status
    if answer.status in (429, 503):
        assert int(answer.headers["retry-after"]) >= 1, answer.headers
    if pattern and method in DOCUMENT["paths"][pattern]:
        responses = {**DOCUMENT["x-any-responses"], **DOCUMENT["paths"][pattern][method]["responses"]}
        assert str(answer.status) in responses, f"{method} {pattern} does not document {answer.status}: {answer}"
        if answer.status < 300:
            routes_seen.add((method, pattern))
            content = responses[str(answer.status)].get("content", {})
            main = kind.split(";")[0]
            assert not content or any(main == c or c == "*/*" or (c == "image/*" and main.startswith("image/"))
                                      for c in content), f"{pattern} does not document {kind}"
    else:
        assert str(answer.status) in DOCUMENT["x-any-responses"], answer
    assert "x-request-id" in answer.headers, answer.headers


class Server:
    """with Server("--max-k", "4") as s: s.curl("/livez")"""

    def __init__(self, *options, folder=None, model="tiny.safetensors", program=BIN / "likeness-server",
                 environment=None):
        self.own = tempfile.TemporaryDirectory(prefix="likeness-api-") if folder is None else None
        self.folder = pathlib.Path(folder or self.own.name)
        self.model = model_file(self.folder, model)
        self.log_path = self.folder / "log"
        command = [str(program), "--model", str(self.model), "--catalogue",
                   str(self.folder / "catalogue.db"), "--listen", "127.0.0.1:0", *SINGLE, *options]
        self.log_file = open(self.log_path, "ab")
        start = self.log_path.stat().st_size
        self.process = subprocess.Popen(command, stderr=self.log_file, stdout=self.log_file,
                                        env={**os.environ, **(environment or {})})
        self.port = None
        end = time.time() + 120
        while self.port is None:
            text = self.log_path.read_bytes()[start:].decode(errors="replace")
            found = re.search(r"listening on http://127\.0\.0\.1:(\d+)", text)
            if found:
                self.port = int(found.group(1))
            elif self.process.poll() is not None or time.time() > end:
                raise AssertionError(f"the server did not start:\n{text}")
            else:
                time.sleep(0.02)
        self.base = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if self.process.poll() is None:
            status = self.stop()
            if kind is None:
                assert status == 0, f"exit status {status}:\n{self.log()[-6000:]}"
        if kind is not None:
            print("--- the server's log ends with:\n" + self.log()[-3000:])
        if self.own:
            self.own.cleanup()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def stop(self, number=signal.SIGTERM, seconds=60):
        self.process.send_signal(number)
        status = self.process.wait(seconds)
        self.log_file.close()
        for word in ("AddressSanitizer", "ThreadSanitizer", "LeakSanitizer", "runtime error:"):
            assert word not in self.log(), self.log()[-8000:]
        return status

    def curl(self, target, *arguments, data=None, method=None, headers=()):
        """One request by curl. data: the body, sent as --data-binary @-, so with curl's own form type."""
        body_to = "/dev/null" if method == "HEAD" else "-"  # curl shows the headers of a HEAD as its body
        command = ["curl", "-sS", "--max-time", "60", "-D", "-", "-o", body_to, "--path-as-is"]
        if data is not None:
            command += ["--data-binary", "@-"]
        if method:
            command += ["-X", method] if method != "HEAD" else ["--head"]
        for header in headers:
            command += ["-H", header]
        command += list(arguments) + [self.base + target]
        run = subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert run.returncode == 0, f"curl {target}: {run.stderr.decode()}"
        answer = parse(run.stdout)
        used = method or ("PUT" if "-T" in arguments else "POST" if data is not None or "-F" in arguments else "GET")
        check_documented(used, target, answer)
        return answer

    def put(self, item, data, metadata=None):
        target = "/items/" + quote(item) + ("" if metadata is None else "?metadata=" + quote(json.dumps(metadata)))
        return self.curl(target, data=data, method="PUT")

    def embed(self, data):
        answer = self.curl("/embed", data=data)
        assert answer.status == 200, answer
        return answer.json()["embeddings"][0]["embedding"]

    def upload(self, files, *more):
        """POST /items by curl; files: {id: bytes} or [(id, bytes)]."""
        arguments = []
        with tempfile.TemporaryDirectory() as folder:
            for i, (name, data) in enumerate(files.items() if isinstance(files, dict) else files):
                path = pathlib.Path(folder) / str(i)
                path.write_bytes(data)
                escaped = name.replace("\\", "\\\\").replace('"', '\\"')
                arguments += ["-F", f'picture=@{path};filename="{escaped}"']
            return self.curl("/items", *arguments, *more)

    def published(self, seconds=60):
        """Waits for the end of the last publication; its status."""
        end = time.time() + seconds
        while True:
            status = self.curl("/model/status").json()
            if status["state"] in ("idle", "done", "failed"):
                return status
            assert time.time() < end, status
            time.sleep(0.02)

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def alive(self):
        """The server is right: it answers, is ready, and embeds."""
        assert self.curl("/livez").json() == {"live": True}
        assert self.curl("/readyz").json()["ready"] is True
        assert len(self.embed(png((10, 20, 30)))) == 64


def parse(raw):
    """Status, headers and body; interim answers (100 Continue) are skipped."""
    while True:
        head, _, body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        if status != 100:
            break
        raw = body
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return Answer(status, headers, body)


def wait_until(true, seconds=30):
    end = time.time() + seconds
    while not true():
        assert time.time() < end, "it did not happen"
        time.sleep(0.05)


def quote(text):
    return "".join(chr(b) if chr(b).isalnum() and b < 128 or chr(b) in "-._~" else f"%{b:02X}" for b in text.encode())


def model_file(folder, name):
    """tiny.safetensors, or tiny-SEED.safetensors for other weights, made when it is not there."""
    path = pathlib.Path(folder) / name
    if not path.exists():
        seed = re.search(r"-(\d+)", name)
        subprocess.run([str(BIN.parent / "tests/bin/make_model"), str(path), seed.group(1) if seed else "1"], check=True)
    return path


def main(names):
    wanted = sys.argv[1:]
    failed = ran = 0
    for name, function in list(names.items()):
        if not name.startswith("test_") or (wanted and not any(w in name for w in wanted)):
            continue
        ran += 1
        start = time.time()
        try:
            function()
            print(f"ok   {name[5:]} ({time.time() - start:.1f} s)", flush=True)
        except Exception:
            failed += 1
            traceback.print_exc(file=sys.stdout)
            print(f"FAIL {name[5:]}", flush=True)
    if failed or not ran:
        print(f"{failed} of {ran} tests failed")
    sys.exit(1 if failed or not ran else 0)
