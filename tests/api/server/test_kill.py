"""Does every acknowledged write survive kill -9 at any moment, with no delete undone and the neighbours right?

    test_kill.py [--rounds 1000] [--index hnsw] [TEST ...]

A round: writers put, replace, patch, delete and upload until the server is killed at a random moment; it is started again
on the same catalogue and compared with what it had acknowledged (ledger.py). Several servers at a time, since a round waits
for starts more than it computes.
"""
import random
import sys
import threading
import time

import harness
import ledger
from harness import Server


def option(name, default):
    if name not in sys.argv:
        return default
    at = sys.argv.index(name)
    value = type(default)(sys.argv[at + 1])
    del sys.argv[at:at + 2]
    return value


ROUNDS = option("--rounds", 12 if harness.SANITIZED else 100)
INDEX = option("--index", "")
LANES = 3
OPTIONS = ["--no-log-requests"] + (["--index", INDEX, "--hnsw-unlinked", "20"] if INDEX else [])


class Lane:
    """One catalogue, killed again and again."""

    def __init__(self, number, rounds):
        self.number, self.rounds, self.failure = number, rounds, None
        self.random = random.Random(1000 + number)
        self.writers = [ledger.Writer(f"{number}{name}", seed=10 * number + seed) for seed, name in enumerate("abc")]
        self.done = self.in_flight = self.before_ready = self.items = 0
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        import tempfile
        try:
            with tempfile.TemporaryDirectory(prefix="likeness-kill-") as folder:
                self.rounds_in(folder)
        except BaseException as e:  # noqa: told by the test
            self.failure = e

    def rounds_in(self, folder):
        server = Server(*OPTIONS, folder=folder)
        known = ledger.embeddings(server)
        try:
            while self.done < self.rounds:
                threads = [w.start(server.port) for w in self.writers]
                time.sleep(0.002 + self.random.random() ** 2 * 0.25)
                server.process.kill()
                server.process.wait()
                for t in threads:
                    t.join()
                self.in_flight += any(w.pending for w in self.writers)
                if self.random.random() < 0.1:  # killed while it starts, too
                    self.before_ready += 1
                    self.kill_at_start(folder)
                server.log_path.write_bytes(b"")
                server = Server(*OPTIONS, folder=folder)
                self.items = ledger.check(server, self.writers, known)
                self.done += 1
            assert server.stop() == 0
        finally:
            if server.process.poll() is None:
                server.process.kill()
                print("--- the server's log ends with:\n" + server.log()[-2000:])

    def kill_at_start(self, folder):
        import subprocess
        command = [str(harness.BIN / "likeness-server"), "--model", f"{folder}/tiny.safetensors", "--catalogue",
                   f"{folder}/catalogue.db", "--listen", "127.0.0.1:0", *harness.SINGLE, *OPTIONS]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(self.random.random() * 0.1)
        process.kill()
        process.wait()


def test_no_acknowledged_write_is_lost_and_no_delete_undone():
    begun = time.time()
    lanes = [Lane(i, ROUNDS // LANES + (i < ROUNDS % LANES)) for i in range(LANES)]
    for lane in lanes:
        lane.thread.join()
    for lane in lanes:
        if lane.failure:
            raise lane.failure
    acknowledged = sum(w.acknowledged for lane in lanes for w in lane.writers)
    rounds = sum(lane.done for lane in lanes)
    print(f"     {rounds} kills, {sum(lane.in_flight for lane in lanes)} with writes under way, "
          f"{sum(lane.before_ready for lane in lanes)} more while starting; {acknowledged} acknowledged writes, "
          f"0 lost, {time.time() - begun:.0f} s")
    assert rounds == ROUNDS and acknowledged > 3 * ROUNDS
    assert sum(lane.in_flight for lane in lanes) > ROUNDS // 4  # else the moments were not random enough


if __name__ == "__main__":
    harness.main(globals())
