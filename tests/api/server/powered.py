"""The server over a disk that forgets what was not synced, and that can be told to fail (tests/power/power_vfs.h)."""
import mmap
import pathlib
import struct

from harness import BIN, Server

PROGRAM = BIN.parent / "tests/bin/power_server"
CUT = 99
FIELDS = ("syncs", "cut_at", "torn", "fault", "lies", "unused", "seed")
NO_FAULT, DISK_FULL, READ_ONLY, SYNC_FAILS, READ_FAILS = range(5)


class Disk:
    """The control block: disk.fault = powered.DISK_FULL at any time."""

    def __init__(self, folder, **fields):
        path = pathlib.Path(folder) / "power"
        path.write_bytes(struct.pack("<iiiiiiQ", *(fields.get(name, 0) for name in FIELDS)))
        self.__dict__["path"] = path
        with open(path, "r+b") as file:
            self.__dict__["map"] = mmap.mmap(file.fileno(), 0)

    def __getattr__(self, name):
        return struct.unpack("<iiiiiiQ", self.map[:])[FIELDS.index(name)]

    def __setattr__(self, name, value):
        at = 4 * FIELDS.index(name)
        self.map[at:at + 4] = struct.pack("<i", value)

    def server(self, *options, folder):
        return Server(*options, folder=folder, program=PROGRAM, environment={"LK_POWER": str(self.path)})
