#!/usr/bin/env python3
"""How much memory does a server hold before, during and after a publish, in which every item is embedded again?

Makes a catalogue of clustered vectors of 512 floats whose pictures are those of the test data by turns, serves it, publishes
another model, and says what the server's memory was, in GB and in multiples of the vectors' own. The network has few
parameters and takes 8 pixels, so that a million pictures take minutes; its size adds the same to every figure.
    tests/bench/index/publish_memory.py [--items N] [--folder DIR] [SERVER OPTIONS...]
DIR keeps the catalogue (3 GB a million) for another run, which publishes the other one of the two models. LK_BIN_DIR: where
likeness-server is; ../tests/bin beside it has the programs that make models and catalogue."""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "api/server"))
from harness import BIN, SAMPLES, Server, wait_until  # noqa: E402

DIM = 512


def status_of(process):
    lines = pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith("Vm")}


class Sampler(threading.Thread):
    """The most that the process held since the last call of most()."""

    def __init__(self, process):
        super().__init__(daemon=True)
        self.process, self.peak = process, 0
        self.start()

    def run(self):
        while self.process.poll() is None:
            try:
                self.peak = max(self.peak, status_of(self.process)["VmRSS"])
            except (OSError, KeyError):
                return
            time.sleep(0.05)

    def most(self):
        peak, self.peak = self.peak, 0
        return peak


def make(folder, items):
    tools = BIN.parent / "tests/bin"
    for name, seed in (("a", "1"), ("b", "2")):  # ResNet-50 of width 16: 512 dimensions, and little to compute
        if not (folder / f"{name}.safetensors").exists():
            subprocess.run([tools / "make_model", folder / f"{name}.safetensors", seed, "16", "50", "8"], check=True)
    if not (folder / "catalogue.db").exists():
        subprocess.run([tools / "make_catalogue", folder / "a.safetensors", folder / "catalogue.db", str(items), *SAMPLES],
                       check=True)


def measure(folder, items, options):
    own = items * DIM * 4

    def say(what, size):
        print(f"{what:44} {size / 1e9:6.2f} GB  {size / own:5.2f} x the vectors", flush=True)

    start = time.time()
    with Server("--no-log-requests", "--publish-share", "1", *options, folder=folder, model="a.safetensors") as s:
        sampler = Sampler(s.process)
        print(f"ready after {time.time() - start:.0f} s: {items} x {DIM}, the vectors' own {own / 1e9:.2f} GB", flush=True)
        say("at most so far", status_of(s.process)["VmHWM"])
        time.sleep(5)
        say("steady", status_of(s.process)["VmRSS"])
        other = "b" if s.curl("/model").json()["generation"] % 2 == 1 else "a"
        sampler.most()
        start = time.time()
        answer = s.curl("/model", "-T", folder / f"{other}.safetensors", "-H",
                        "Content-Type: application/octet-stream", method="PUT")
        assert answer.status == 202, answer
        while (status := s.curl("/model/status").json())["state"] not in ("done", "failed"):
            time.sleep(1)
        took = time.time() - start
        assert status["state"] == "done" and status["embedded"] == items and not status["failed"], status
        say("during the publish at most", sampler.most())
        wait_until(lambda: "of models that do not serve" in s.log().rsplit("publishing model", 1)[1], 3600)
        say("while the old vectors were dropped, at most", sampler.most())
        time.sleep(5)
        say("steady after it", status_of(s.process)["VmRSS"])
        print(f"embedded {items} items again in {took:.0f} s: {items / took:.0f} a second", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20000)
    parser.add_argument("--folder", type=pathlib.Path)
    own, options = parser.parse_known_args()
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="likeness-bench-") as temporary:
        folder = own.folder or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        make(folder, own.items)
        measure(folder, own.items, options)


main()
