"""Does a settings file mean what the same flags mean, and is every mistake in it named?"""
import json
import pathlib
import subprocess
import tempfile

import harness
from harness import BIN, Server, png


def run(*options):
    return subprocess.run([str(BIN / "likeness-server"), *options], capture_output=True, text=True, timeout=60)


def written(folder, text):
    path = pathlib.Path(folder) / "settings.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return str(path)


def printed(*options):
    answer = run(*options, "--print-config")
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def test_what_is_printed_is_read_again():
    flags = ["--model", 'a "b"\\ü.safetensors', "--max-k", "77", "--max-body-bytes", "3M", "--no-log-requests",
             "--drain-seconds", "0.1", "--index", "hnsw", "--listen", "[::1]:0", "--header-timeout-seconds", "12.345678901"]
    first = printed(*flags)
    assert first["max-k"] == 77 and first["max-body-bytes"] == 3 << 20 and first["log-requests"] is False
    assert first["drain-seconds"] == 0.1 and first["model"] == 'a "b"\\ü.safetensors' and first["keys"] is None
    with tempfile.TemporaryDirectory() as folder:
        path = written(folder, first)
        assert printed("--config", path) == first
        assert printed() != first
        assert printed("--config", path, "--max-k", "78", "--log-requests") == {**first, "max-k": 78, "log-requests": True}
        assert printed("--max-k=78", "--config", path)["max-k"] == 78, "a flag before the file wins too"
        help_text = run("--help").stdout
        for name in first:
            assert f"--{name}" in help_text or f"--[no-]{name}" in help_text, name


def test_every_mistake_is_named():
    with tempfile.TemporaryDirectory() as folder:
        for text, part in (({"max-kk": 1}, "did you mean --max-k?"), ({"max_k": 1}, "did you mean --max-k?"),
                           ({"max-k=5": 1}, '"max-k=5" is no setting'), ({"no-log-requests": True}, "is no setting"),
                           ({"help": True}, "is no setting"), ({"": 1}, "is no setting"),
                           ({"config": "x"}, "has no place"), ({"print-config": True}, "has no place"),
                           ({"max-k": "12"}, '"max-k" takes a whole number'), ({"max-k": 1.5}, "takes a whole number"),
                           ({"max-k": None}, "takes a whole number"), ({"max-k": [1]}, "takes a whole number"),
                           ({"max-k": 0}, "--max-k is 1 to"), ({"max-body-bytes": "3X"}, "--max-body-bytes takes"),
                           ({"max-body-bytes": True}, '"max-body-bytes" takes a number of bytes'),
                           ({"log-requests": 1}, '"log-requests" takes true or false'), ({"index": "tree"}, "--index is one of"),
                           ({"index": 3}, '"index" takes a string'), ({"drain-seconds": "1"}, "takes a number"),
                           ('{"max-k": 1, "max-k": 2}', "max-k"), ('{"max-k": 1', "settings.json:"), ("[]", "settings.json:"),
                           ("", "settings.json:"), ('{"model": "a\\u0000b"}', "settings.json:"), ("[" * 100000, "settings.json:")):
            answer = run("--model", "m", "--config", written(folder, text), "--print-config")
            assert answer.returncode == 2 and not answer.stdout, (text, answer)
            assert "settings.json" in answer.stderr and part in answer.stderr, (text, answer.stderr)
        answer = run("--config", folder + "/missing.json")
        assert answer.returncode == 2 and "missing.json" in answer.stderr, answer
        answer = run("--config", folder)
        assert answer.returncode == 2 and folder in answer.stderr, answer


def test_a_server_starts_from_a_file_and_shows_it():
    with tempfile.TemporaryDirectory() as folder:
        path = written(folder, {"max-k": 5, "max-body-bytes": "1M", "log-format": "json", "connections": 100})
        with Server("--config", path, "--max-images", "7") as s:
            shown = s.curl("/model").json()
            assert shown["limits"]["max_k"] == 5 and shown["limits"]["max_body_bytes"] == 1 << 20
            assert shown["limits"]["max_images"] == 7 and shown["limits"]["connections"] == 100
            assert shown["options"]["log_format"] == "json"
            assert s.curl("/neighbors?k=6", data=png((1, 2, 3))).status == 400
            # every limit of the help is shown, by its name
            limits = run("--help").stdout.split("Limits")[1].split("\n\n")[0]
            names = {word[2:].replace("-", "_") for word in limits.split() if word.startswith("--")}
            assert names and names <= set(shown["limits"]), names - set(shown["limits"])


harness.main(globals())
