"""Is everything that the server acknowledged there after a power cut, at every sync of a scripted load?

    test_power.py [--seeds 10] [TEST ...]

The load runs once for each sync that it makes, on a server whose disk forgets what was not synced (power_vfs.h), is cut
there, and the real server is started on what is left and compared with what was acknowledged (ledger.py). --seeds: how
often with other parts of what was not synced surviving.
"""
import sys
import tempfile
import threading

import harness
import ledger
import powered
from harness import Server

SEEDS = 1
if "--seeds" in sys.argv:
    at = sys.argv.index("--seeds")
    SEEDS = int(sys.argv[at + 1])
    del sys.argv[at:at + 2]
OPTIONS = ["--no-log-requests"]
STRIDE = 4 if harness.SANITIZED else 1


def writers(seed):
    """One at a time makes a sync a write, so that each write is met; three at a time share syncs."""
    return [ledger.Writer(name, seed + i, ids=6) for i, name in enumerate("abc")]


def cut_at(sync, folder, known, lies, **how):
    """(1 when it was cut, acknowledged writes, None or what was lost)."""
    disk = powered.Disk(folder, cut_at=sync, lies=lies, **how)
    w = writers(7)
    try:
        server = disk.server(*OPTIONS, folder=folder)
    except AssertionError:  # cut before it listened
        server = None
    if server:
        w[0].run(server.port, limit=16)
        threads = [threading.Thread(target=x.run, args=(server.port, 6)) for x in w]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        if server.process.poll() is None and disk.syncs < sync:
            server.stop()
        status = server.process.wait(60)
        assert status in (0, powered.CUT), (status, server.log()[-2000:])
    cut = disk.syncs >= sync
    acknowledged = sum(x.acknowledged for x in w)
    (server.log_path if server else harness.pathlib.Path(folder, "log")).write_bytes(b"")
    try:
        with Server(*OPTIONS, folder=folder) as again:
            ledger.check(again, w, known)
    except AssertionError as e:
        if not lies:
            raise AssertionError(f"cut at sync {sync} after {acknowledged} acknowledged writes: {e}") from e
        return cut, acknowledged, str(e)
    return cut, acknowledged, None


def cut_everywhere(known, lies=0, stride=STRIDE, **how):
    sync, cuts, lost, most = 1, 0, 0, 0
    while True:
        with tempfile.TemporaryDirectory(prefix="likeness-power-") as folder:
            cut, acknowledged, what = cut_at(sync, folder, known, lies, **how)
        most = max(most, acknowledged)
        lost += what is not None
        if not cut:
            return cuts, lost, most
        cuts += 1
        sync += stride


def known_embeddings():
    with Server(*OPTIONS) as s:
        return ledger.embeddings(s)


def test_at_every_sync_all_that_is_not_synced_is_lost():
    cuts, _, most = cut_everywhere(known_embeddings())
    print(f"     {cuts} cuts, up to {most} acknowledged writes before")
    assert cuts > 10 // STRIDE and most > 15


def test_at_every_sync_a_random_part_of_it_survives():
    known, cuts = known_embeddings(), 0
    for seed in range(SEEDS):
        cuts += cut_everywhere(known, stride=STRIDE * (3 if SEEDS == 1 else 1), torn=1, seed=1000 * seed)[0]
    print(f"     {cuts} cuts")
    assert cuts > 4 // STRIDE  # fewer where writes are grouped more


def test_a_disk_that_lies_about_syncs_of_the_log_is_noticed():
    """If nothing were lost here, the other tests would show nothing."""
    cuts, lost, _ = cut_everywhere(known_embeddings(), lies=1, stride=5)
    print(f"     {lost} of {cuts} cuts lost something")
    assert lost > 0


if __name__ == "__main__":
    harness.main(globals())
