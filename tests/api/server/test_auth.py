"""Does every route ask for the role that the document says, and is what a foreign web page could send refused?"""
import hashlib
import os
import pathlib
import signal
import subprocess
import tempfile
import time

import harness
from harness import DOCUMENT, BIN, Server, png

CAT = png((200, 30, 10))
KEYS = {"read": "reader-key-0123456789", "write": "writer-key-0123456789", "admin": "admin-key-0123456789"}
RANK = {"none": 0, "read": 1, "write": 2, "admin": 3}


def key_file(folder, text=None, mode=0o600):
    path = pathlib.Path(folder) / "keys"
    hashed = hashlib.sha256(KEYS["write"].encode()).hexdigest()
    path.write_text(text if text is not None else f"# who may what\nread phone {KEYS['read']}\n\n"
                    f"write uploader sha256:{hashed}  # its hash alone\nadmin ops {KEYS['admin']}\n")
    path.chmod(mode)
    return str(path)


def bearer(key):
    return [f"Authorization: Bearer {key}"]


def refused(answer, status, code):
    assert (answer.status, answer.code) == (status, code), answer


def request_of(path, method):
    """An ordinary request for a route, which gets further than its keys."""
    target = path.replace("{id}", "x").replace("{file}", "app.js")
    if path == "/neighbors" and method == "get":
        target += "?id=x"
    return target, (CAT if method in ("post", "put", "patch") else None)


def test_every_route_asks_for_its_role():
    with tempfile.TemporaryDirectory() as folder, Server("--keys", key_file(folder)) as s:
        asked = 0
        for path, operations in DOCUMENT["paths"].items():
            for method, operation in operations.items():
                if method == "parameters":
                    continue
                target, body = request_of(path, method)
                for role, key in {"none": None, **KEYS}.items():
                    answer = s.curl(target, data=body, method=method.upper(), headers=bearer(key) if key else [])
                    if RANK[role] >= RANK[operation["x-role"]]:
                        assert answer.status not in (401, 403), (path, method, role, answer)
                        continue
                    asked += 1
                    refused(answer, 401 if key is None else 403, "unauthorized" if key is None else "forbidden")
                    assert answer.headers["www-authenticate"].startswith("Bearer realm="), answer.headers
                    if key:
                        assert operation["x-role"] in answer.json()["error"]["message"], answer
        assert asked > 20, asked
        for word in KEYS.values():
            assert word not in s.log(), "a key stands in the log"
        assert 'key=phone' in s.log() and 'key=uploader' in s.log(), s.log()[-500:]


def test_what_is_no_key_is_refused():
    with tempfile.TemporaryDirectory() as folder, Server("--keys", key_file(folder)) as s:
        wrong = ["Bearer " + KEYS["read"][:-1], "Bearer " + KEYS["read"] + "x", "Bearer", "Bearer ", "Basic cGhvbmU6eA==",
                 KEYS["read"], "Bearer phone", "Bearer " + "a" * 5000,
                 "Bearer sha256:" + hashlib.sha256(KEYS["write"].encode()).hexdigest(),
                 "Bearer " + KEYS["read"] + " " + KEYS["read"]]
        for header in wrong:
            refused(s.curl("/model", headers=["Authorization: " + header]), 401, "unauthorized")
        for header in ("bearer  " + KEYS["read"], "BEARER " + KEYS["read"] + "  "):
            assert s.curl("/model", headers=["Authorization: " + header]).status == 200, header
        # the body of a refused request is not kept, and the connection goes on
        c = s.connection()
        c.request("PUT", "/items/x", body=b"x" * 1000000)
        assert c.getresponse().read() and c.sock is not None
        c.request("GET", "/livez")
        assert c.getresponse().status == 200
        c.close()


def wait_for(s, text):
    end = time.time() + 20
    while text not in s.log():
        assert time.time() < end, s.log()[-2000:]
        time.sleep(0.02)


def test_keys_are_read_again_at_sighup():
    with tempfile.TemporaryDirectory() as folder, Server("--keys", key_file(folder)) as s:
        new = "another-key-987654321"
        key_file(folder, f"admin ops {new}\n")
        assert s.curl("/model", headers=bearer(new)).status == 401
        s.process.send_signal(signal.SIGHUP)
        wait_for(s, " 1 keys")
        assert s.curl("/model", headers=bearer(new)).status == 200
        assert s.curl("/model", headers=bearer(KEYS["admin"])).status == 401
        for text in ("admin ops short\n", "", "king ops " + new + "\n"):
            before = s.log().count("the keys stay as they were")
            key_file(folder, text)
            s.process.send_signal(signal.SIGHUP)
            end = time.time() + 20
            while s.log().count("the keys stay as they were") == before and time.time() < end:
                time.sleep(0.02)
            assert s.log().count("the keys stay as they were") == before + 1, s.log()[-1000:]
            assert s.curl("/model", headers=bearer(new)).status == 200
        os.remove(pathlib.Path(folder) / "keys")
        s.process.send_signal(signal.SIGHUP)
        wait_for(s, "keys: ")
        assert s.curl("/model", headers=bearer(new)).status == 200


def start(*options):
    run = subprocess.run([str(BIN / "likeness-server"), "--model", "no-such-model", "--listen", "127.0.0.1:0", *options],
                         capture_output=True, text=True, timeout=60)
    assert run.returncode != 0
    return run.stderr


def test_a_bad_key_file_is_refused_with_its_line():
    with tempfile.TemporaryDirectory() as folder:
        good = "read phone reader-key-0123456789\n"
        for text, part in (
                (good + "write phone writer-key-0123456789\n", "keys:2: the name \"phone\" is taken"),
                (good + "write b reader-key-0123456789\n", "keys:2: \"phone\" and \"b\" are the same key"),
                ("owner a reader-key-0123456789\n", "keys:1: a line begins with read, write or admin"),
                ("read a\n", "keys:1: a line has three words"), ("read a b c\n", "keys:1: a line has three words"),
                ("read a/b reader-key-0123456789\n", "keys:1: a name has"),
                ("read a too-short\n", "keys:1: the key of \"a\" has to be 16 or more"),
                ("read a reader-key-ä-0123456789\n", "keys:1: the key of \"a\" has to be"),
                ("read a sha256:12ab\n", "64 hexadecimal"), ("# nothing\n", "there is no key in it"),
                ("\0" * 40, "this is no text")):
            said = start("--keys", key_file(folder, text))
            assert part in said, (text, said)
            assert "0123456789" not in said, said
        assert "no-such" in start("--keys", folder + "/no-such")
        assert "others can read the keys" in start("--keys", key_file(folder, good, 0o644))
        assert "others can" not in start("--keys", key_file(folder, good, 0o600))
        # an address that others can reach needs keys
        public = ["--model", "no-such-model", "--listen", "0.0.0.0:0"]
        assert "--keys" in start(*public)
        assert "no-such-model" in start(*public, "--keys", key_file(folder, good))


def test_a_foreign_web_page_changes_nothing():
    with Server() as s:
        here = f"127.0.0.1:{s.port}"
        for origin in ("http://evil.example", "https://127.0.0.1:1", "null", f"http://evil.example:{s.port}", ""):
            for target, method in (("/items/x", "PUT"), ("/items/x", "DELETE"), ("/items/x", "PATCH"), ("/items", "POST"),
                                   ("/embed", "POST"), ("/model", "PUT"), ("/model/reload", "POST")):
                header = f"Origin: {origin}" if origin else "Origin;"
                answer = s.curl(target, data=CAT, method=method, headers=[header])
                refused(answer, 403, "cross_site")
        assert s.curl("/model").json()["items"] == 0
        assert s.curl("/items/x", data=CAT, method="PUT", headers=[f"Origin: http://{here}"]).status == 201
        assert s.curl("/items/x", headers=["Origin: http://evil.example"]).status == 200  # it cannot read the answer
        # a page whose name was pointed at us has the same origin: its Host tells
        for host in ("evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", "[::1", "x", ""):
            refused(s.curl("/items/x", headers=[f"Host: {host}" if host else "Host;"]), 421, "unknown_host")
            refused(s.curl("/items/x", data=CAT, method="PUT", headers=[f"Host: {host}" if host else "Host;",
                                                                       f"Origin: http://{host}"]), 421, "unknown_host")
        for host in ("localhost", f"LOCALHOST:{s.port}", "[::1]:80", "192.168.1.9:8080"):
            assert s.curl("/items/x", headers=[f"Host: {host}"]).status == 200, host
    with Server("--allowed-host", "pictures.lan,other") as s:
        assert s.curl("/model", headers=["Host: Pictures.LAN:8080"]).status == 200
        assert s.curl("/model", headers=["Host: other"]).status == 200
        refused(s.curl("/model", headers=["Host: pictures"]), 421, "unknown_host")
    with tempfile.TemporaryDirectory() as folder, Server("--keys", key_file(folder)) as s:
        assert s.curl("/model", headers=["Host: any.example", *bearer(KEYS["read"])]).status == 200
        refused(s.curl("/items/x", data=CAT, method="PUT", headers=["Origin: http://evil.example", *bearer(KEYS["write"])]),
                403, "cross_site")


def likeness(s, *arguments, env=None):
    return subprocess.run([str(BIN / "likeness"), "--server", s.base, *arguments], capture_output=True, text=True, timeout=60,
                          env={**os.environ, **(env or {})})


def test_the_command_sends_its_key():
    with tempfile.TemporaryDirectory() as folder, Server("--keys", key_file(folder)) as s:
        own, picture = pathlib.Path(folder) / "key", pathlib.Path(folder) / "cat.png"
        own.write_text("\n  " + KEYS["write"] + " \r\n")
        picture.write_bytes(CAT)
        assert likeness(s, "--key-file", str(own), "add", str(picture)).returncode == 0
        assert likeness(s, "ls", env={"LIKENESS_KEY": KEYS["read"]}).stdout == "cat.png\n"
        assert likeness(s, "ls", "--key-file", str(own), env={"LIKENESS_KEY": "wrong"}).returncode == 0
        answer = likeness(s, "ls")
        assert answer.returncode == 1 and "[unauthorized, HTTP 401]" in answer.stderr and "--key-file" in answer.stderr, answer
        answer = likeness(s, "rm", "cat.png", env={"LIKENESS_KEY": KEYS["read"]})
        assert answer.returncode == 1 and "[forbidden, HTTP 403]" in answer.stderr, answer
        for wrong in ("two words", "a\x01", "ä" * 3, "k" * 201, ""):
            own.write_text(wrong)
            answer = likeness(s, "ls", "--key-file", str(own))
            assert answer.returncode == 2 and "key" in answer.stderr and (not wrong or wrong not in answer.stderr), answer
        assert likeness(s, "ls", "--key-file", folder + "/missing").returncode == 2


harness.main(globals())
