"""Writes the hand-made inputs of tests/fuzz/corpus: one of each form that a parser knows, and the known ways to get it
wrong. What a fuzzer found since lies beside them under its hash (scripts/fuzz keeps it small). Run it after a change:

    python3 tests/fuzz/make_corpus.py
"""
import io
import json
import pathlib
import struct
import tarfile

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"


def seeds(target, inputs):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    for i, data in enumerate(inputs):
        (folder / f"seed-{i:02d}").write_bytes(data if isinstance(data, bytes) else data.encode())


def text(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


PNG = ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC")

FILTERS = [
    {},
    {"must": [{"key": "a.b", "match": "x"}, {"key": "n", "range": {"gte": -1.5e3, "lt": 9007199254740993}}]},
    {"should": [{"key": "tags", "any": ["x", 1, True, None]}, {"must_not": [{"key": "\"a.b\".c", "exists": False}]}]},
    {"must_not": [{"key": "at", "range": {"gt": "2024-01-31T12:00:00.5+01:00", "lte": "2025-02-28"}}]},
    {"must": [{"must": [{"should": [{"key": "ü", "match": "\"\\\n"}]}]}]},
    {"must": [{"key": "ß", "match": "😀"}]},
]
METADATA = [
    {}, {"a": {"b": ["x", ["y", {"c": 1}]]}, "n": 1e3, "tags": [None, True, -0.0]},
    {"ß": ["€", "😀"]},
    {"a.b": {"c": []}, "at": "2024-06-01T00:00:00Z", "n": 9007199254740993, "ü": "\"\\\n\u0007😀"},
]
seeds("filter", [text(f) + "\n" + text(m) for f in FILTERS for m in METADATA] +
      ['{"must":[{"key":"a","match":1}]}\n{"a":[[[[1]]],{"a":', '{"must":[{"key":"a..b","match":1}]}\n{}',
       '{"must":{"key":1}}', '{"must":[{"key":"\\"a","match":1}]}\n{}', '{"must":[{"key":"a","range":{"gt":"x"}}]}\n{}'])

VECTOR = [0.5, -0.25, 1e-3, 2]
seeds("neighbors", [
    text({"vector": VECTOR, "k": 3}), text({"id": "photos/a.png", "min_score": 0.5, "with_metadata": False, "generation": 3}),
    text({"image": PNG}), text({"image": "data:image/png;base64," + PNG, "filter": FILTERS[1]}),
    text({"queries": [{"id": "x"}, {"vector": VECTOR, "k": 1, "filter": FILTERS[2]}, {"image": "%%%"}], "k": 7,
          "filter": FILTERS[3]}),
    text({"vector": [0, 0, 0, 0]}), text({"vector": [1e300] * 4}), text({"id": "x", "generation": 2}), text({"queries": []}),
    text({"id": "\u0001"}), "{", "[]", '{"id":"a","id":"b"}', '{"id":"\\ud800"}', "[" * 300,
    ' { "vector" :\t[ -0 ,\n1.2345678e-5,\r0.12345678901234567 ,12345678901234567890e-22] , "k" : 2 }',
    '{"vector":[1,2,3,9223372036854775807]}', '{"vector":[1,2,3,1e400]}', '{"vector":[1,2,03,4]}', '{"vector":[1,2,3,4,]}',
    '{"vector":[1,2,3]}', '{"vector":[1,2,3,4]e1}', '{"vector":[1,2,3,4],"vec\\u0074or":0}', '{"vector":0}',
    '{"queries":[{"vector":[1,2,3,4]},{"vector":[0.1,0.2,0.3,0.4],"filter":{"must":[{"key":"vector","match":"vector"}]}}]}',
    '{"queries":[{"vector":[1,2,3,4]},{"vector":1}]}', '{"queries":{"a":{"vector":[1,2,3,4]}}}',
    '{"id":"\\"vector\\":[1,2,3,4]"}'])

seeds("embed", [
    text({"images": [PNG]}), text({"images": ["data:image/png;base64," + PNG, PNG[:-2], "data:,x", ""]}), text({"images": []}),
    text({"images": ["x"] * 9}), text({"images": [1]}), text({"imagez": []})] + [text(m) for m in METADATA] +
      ['{"a":1e400}', '{"a":"\\u00e9\\/\\ud83d\\ude00"}', ' { "a" : 1 } ', '{"a":123456789012345678901}'])


def part(name, file=None, kind=None, body=b"x"):
    head = f'Content-Disposition: form-data; name="{name}"' + (f'; filename="{file}"' if file is not None else "")
    return head.encode() + (f"\r\nContent-Type: {kind}".encode() if kind else b"") + b"\r\n\r\n" + body


def multipart(parts, boundary="b0", end=b"--\r\n", piece=b"\x05", preamble=b""):
    mark = b"--" + boundary.encode()
    return (f"multipart/form-data; boundary={boundary}\n".encode() + piece + preamble +
            b"".join(mark + b"\r\n" + p + b"\r\n" for p in parts) + mark + end)


seeds("multipart", [
    multipart([part("metadata", None, "application/json", b'{"a":1}'), part("image", "a/b.png", "image/png", b"\x89PNG\r\n\r\n--b")]),
    multipart([part("", "", None, b"")], piece=b"\x00"), multipart([], piece=b"\x3f"),
    multipart([part("a\\\"b", "%22.png", None, b"\r\n--b\r\n--b1\r\n")], boundary="b0-0_0.0", piece=b"\x01"),
    multipart([part("x", "y")], end=b""), multipart([part("x", "y")], end=b"--junk"), multipart([part("x", "y")], preamble=b"hello\r\n"),
    b'multipart/form-data; boundary="a b"; charset=x\n\x02--a b\r\nContent-Disposition: form-data; name*=x; filename=u\r\n\r\n\r\n--a b--',
    b"multipart/form-data\n\x02x", b"text/plain; boundary=b0\n\x02--b0--", b"multipart/form-data; boundary=b0\n\x02--b0\r\n" + b"h: v\r\n" * 50,
    multipart([b"Broken\r\n\r\nx"]), multipart([b" folded: x\r\n y\r\n\r\nx"])])

seeds("uri", [
    "/", "/items/a%2Fb?metadata=%7B%22a%22%3A1%7D", "/items/%C3%BC/image", "/items?limit=5&after=x+y%00&filter={}", "/items/%zz",
    "/items/%2e%2e/%2E", "/neighbors?id=a&k=1&k=2", "/web/app.js", "/embed?", "/items//image", "//", "/items/a/b/c/d", "/model/status?x",
    "?a=b&&=c&d", "/x?" + "&".join(f"n{i}={i}" for i in range(70)), "/items/" + "%F0%9F%98%80" * 20])

seeds("base64", [
    "", "QQ==", "QUI", "QUJD", " Q U J D\r\n", "QQ=", "Q", "QR==", "====", "QUJD=", "data:image/png;base64," + PNG, "data:;base64,QUJD",
    "data:image/png;name=a;charset=utf-8;base64,QUJD", "data:,x", "data:image/png", "DATA:image/png;BASE64,QUJD", "http://example.org/x",
    "\xff\xfe", "QUJD\x00"])


def safetensors(header, data=b"", size=None):
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(head) if size is None else size) + head + data


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


MODEL = {"__metadata__": {"format": "pt", "likeness.format": "1", "architecture": "resnet18", "stem": "cifar", "width": "8"},
         "conv1.weight": tensor("F32", [8, 3, 3, 3], 0, 864), "bn1.weight": tensor("BF16", [8], 864, 880)}
seeds("safetensors", [
    safetensors({}), safetensors({"a": tensor("F32", [2, 3], 0, 24)}, bytes(24)), safetensors(MODEL, bytes(880)),
    safetensors({"a": tensor("F64", [], 0, 8), "b": tensor("F16", [0], 8, 8), "c": tensor("I64", [1], 8, 16)}, bytes(range(16))),
    safetensors({"a": tensor("F32", [2], 0, 8), "b": tensor("F32", [2], 4, 12)}, bytes(12)),
    safetensors({"a": tensor("F32", [2 ** 62, 4], 0, 0)}), safetensors({"a": tensor("F32", [-1], 0, 4)}, bytes(4)),
    safetensors({"a": tensor("Q7", [1], 0, 4)}, bytes(4)), safetensors({"a": tensor("U8", [3], 0, 4)}, bytes(4)),
    safetensors({}, size=2 ** 63), safetensors({}, size=100), safetensors(b'{"a":{"dtype":"F32"'), b"", b"\x08", bytes(8),
    safetensors(b'{"\\u0061":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}', b"12"),
    safetensors(b" " * 50 + b"{}")])

# PNG and JPEG: tests/data/images has one of every kind; here is what no encoder writes.
png = bytes.fromhex("89504e470d0a1a0a")
seeds("png", [png, png + struct.pack(">I", 13) + b"IHDR" + struct.pack(">IIBBBBB", 2 ** 31 - 1, 2 ** 31 - 1, 16, 6, 0, 0, 1) + bytes(4),
              png + struct.pack(">I", 0) + b"IEND" + bytes.fromhex("ae426082")])
seeds("jpeg", [b"\xff\xd8", b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xe1\x00\x10Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01",
               b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x44\x00\x02\x11\x01\x03\x11\x01"])


def tar(entries, end=1024, form=tarfile.USTAR_FORMAT):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, data, *kind in entries:
            about = tarfile.TarInfo(name)
            about.size = len(data)
            about.type = kind[0] if kind else tarfile.REGTYPE
            about.linkname = "images/a" if kind else ""
            archive.addfile(about, io.BytesIO(data))
    return buffer.getvalue()[:archive.offset - 1024 + end]


def exported(names, **more):
    return tar([pair for n in names for pair in ((f"items/{n}.json", text({"id": "x", "metadata": {"label": "cat"}}).encode()),
                                                 (f"images/{n}", b"\x89PNG picture"))], **more)


seeds("export", [
    exported(["a", "b%2Fc.png", "%C3%BC"]), exported([]), exported(["a"], end=0), exported(["a"], end=512), exported(["b", "a"]),
    exported(["a", "a"]), exported(["x" * 200], form=tarfile.PAX_FORMAT), exported(["y" * 200], form=tarfile.GNU_FORMAT),
    tar([("images/a", b"x", tarfile.SYMTYPE)]), tar([("images/a", b"", tarfile.DIRTYPE)]), tar([("images/a", b"", tarfile.LNKTYPE)]),
    tar([("images/../a", b"x"), ("/etc/passwd", b"x")]), tar([("images/%zz", b"x")]), tar([("images/a", b"")]),
    tar([("items/a.json", b"{}")]), tar([("items/a.json", b"{"), ("images/a", b"x")]), tar([("./images/a", b"x"), ("./items/a.json", b"[]")]),
    exported(["a"])[:700], exported(["a"])[:124] + b"77777777777\0" + exported(["a"])[136:], b"\0" * 1024, b"x" * 600])
