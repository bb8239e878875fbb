"""When the disk is full or fails: is every write refused with a clear code, does reading go on, and is all well afterwards?"""
import tempfile

import harness
import ledger
import powered
from harness import png


def under(fault, codes, after=powered.NO_FAULT):
    """Writes meet the fault in the middle of a load; the ledger must hold before, during and after it."""
    with tempfile.TemporaryDirectory(prefix="likeness-disk-") as folder:
        disk = powered.Disk(folder)
        with disk.server("--no-log-requests", folder=folder) as s:
            known = ledger.embeddings(s)
            writers = [ledger.Writer(name, i, ids=8, may_fail=[status for status, _ in codes])
                       for i, name in enumerate("ab")]
            writers[0].run(s.port, limit=25)
            before = writers[0].acknowledged
            assert writers[0].refused == 0 and before
            disk.fault = fault
            big = png((1, 2, 3)) + bytes(3 << 20)  # grows the catalogue for sure
            answer = s.curl("/items/big", data=big, method="PUT")
            assert (answer.status, answer.code) in codes, answer
            for w in writers:
                w.run(s.port, limit=15)
            assert sum(w.refused for w in writers) > 0
            assert s.curl("/items/big").status == 404
            item = next(i for w in writers for i, state in w.states.items() if state)
            assert s.curl(f"/items/{item}").status == 200  # reading goes on
            assert s.curl(f"/items/{item}/image").status == 200
            assert s.curl(f"/neighbors?id={item}").status == 200
            s.alive()
            disk.fault = after  # and writing, once there is room again, without a restart
            assert s.curl("/items/big", data=big, method="PUT").status == 201
            assert s.curl("/items/big", method="DELETE").status == 204
            for w in writers:
                w.may_fail = ()
                w.run(s.port, limit=10)
            assert writers[0].acknowledged > before
            s.stop()
        with harness.Server("--no-log-requests", folder=folder) as s:  # the real disk
            assert ledger.check(s, writers, known) > 3


def test_a_full_disk_refuses_writes_until_there_is_room():
    under(powered.DISK_FULL, [(507, "disk_full")])


def test_a_read_only_disk_refuses_writes_until_it_can_be_written():
    under(powered.READ_ONLY, [(503, "storage_failed")])


def test_a_disk_that_cannot_sync_acknowledges_nothing():
    under(powered.SYNC_FAILS, [(503, "storage_failed")])


def test_a_disk_that_cannot_be_read_is_an_error_and_no_crash():
    with tempfile.TemporaryDirectory(prefix="likeness-disk-") as folder:
        disk = powered.Disk(folder)
        with disk.server(folder=folder) as s:
            for i in range(40):  # more than the caches of the connections keep
                assert s.curl(f"/items/i{i}", data=png((i, i, i)) + bytes([i]) * 500000, method="PUT").status == 201
            disk.fault = powered.READ_FAILS
            answers = [s.curl(f"/items/i{i}/image") for i in range(40)]
            refused = [a for a in answers if a.status != 200]
            assert refused and all((a.status, a.code) == (503, "storage_failed") for a in refused), refused[:2]
            s.alive()  # embedding needs no disk
            disk.fault = powered.NO_FAULT
            assert all(s.curl(f"/items/i{i}/image").status == 200 for i in range(40))
            assert s.put("more", png((3, 2, 1))).status == 201


if __name__ == "__main__":
    harness.main(globals())
