"""Ten times more requests than the server can answer: does it do what it can, refuse the rest politely, and recover?

  test_overload.py                   a few seconds, with bounds that a busy machine keeps
  test_overload.py --long            a minute, with the bounds that are promised; needs a quiet machine
"""
import json
import subprocess
import sys
import tempfile
import time

import harness
from harness import BIN, SAMPLES, Server

LONG = "--long" in sys.argv and (sys.argv.remove("--long") or True)
SECONDS, GOODPUT = (60, 0.9) if LONG else (4, 0.6)


def load(server, seconds, connections, rate=0):
    command = [str(BIN.parent / "tests/bin/load_client"), str(server.port), str(SAMPLES[0]), str(seconds), str(connections),
               str(rate)]
    result = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    result["rate"] = result["ok"] / result["seconds"]
    return result


def rss(server):
    with open(f"/proc/{server.process.pid}/status") as status:
        return next(int(line.split()[1]) >> 10 for line in status if line.startswith("VmRSS"))


def slow_model(folder):
    """Wide enough that the engine, not the client, is the bottleneck."""
    path = f"{folder}/tiny.safetensors"
    subprocess.run([str(BIN.parent / "tests/bin/make_model"), path, "1", "16" if harness.SANITIZED else "64", "34"],
                   check=True)


def test_ten_times_too_much_is_refused_politely_and_forgotten_at_once():
    with tempfile.TemporaryDirectory() as folder:
        slow_model(folder)
        with Server("--queue", "128", "--no-log-requests", folder=folder) as s:
            load(s, 1, 32)
            peak = load(s, 3, 32)
            before = rss(s)
            over = load(s, SECONDS, 512, 10 * peak["rate"])
            grown = rss(s) - before
            start = time.time()
            while s.curl("/embed", data=SAMPLES[0].read_bytes()).status != 200:
                time.sleep(0.05)
            back, after = time.time() - start, load(s, 2, 32)
            print(f"peak {peak['rate']:.0f}/s; ten times that for {SECONDS} s: {over['rate']:.0f}/s answered "
                  f"({over['rate'] / peak['rate']:.2f} of the peak), {over['refused'] / SECONDS:.0f}/s refused, "
                  f"{over['unsent'] / SECONDS:.0f}/s unsent, p99 {over['p99_ms']:.0f} ms; memory +{grown} MiB; "
                  f"answers again after {back:.2f} s, then {after['rate']:.0f}/s")
            assert peak["other"] == peak["lost"] == peak["refused"] == 0, peak
            assert over["refused"] > over["ok"] and over["other"] == over["lost"] == 0, over
            assert over["refused_without_retry_after"] == 0, over
            assert over["rate"] >= GOODPUT * peak["rate"], (over, peak)
            assert grown < (400 if harness.SANITIZED else 64), grown
            assert after["refused"] == after["other"] == 0 and after["rate"] >= GOODPUT * peak["rate"], after
            assert back < (2 if LONG else 10), back


harness.main(globals())
