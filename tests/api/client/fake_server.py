"""A stand-in for likeness-server in tests of its clients: the routes of docs/openapi.yaml over a dictionary, on the
standard library alone, with faults on order. Vectors are made from the bytes' hash, so equal pictures are equal and
nothing else is true of them. Run it by hand to look at the web page without a model:

    python3 fake_server.py [--port N] [FOLDER]
"""

import argparse
import hashlib
import io
import json
import math
import os
import re
import struct
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, unquote, urlsplit

DIM = 8
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


class Refusal(Exception):
    def __init__(self, status, code, message, param=None):
        super().__init__(message)
        self.status = status
        self.body = {"code": code, "message": message, "param": param}


def check_picture(data):
    if not data:
        raise Refusal(400, "empty_body", "the picture is empty")
    if not data.startswith((PNG, JPEG)):
        raise Refusal(415, "unsupported_image_format", "the bytes are neither PNG nor JPEG")
    if b"BROKEN" in data:
        raise Refusal(422, "undecodable_image", "the picture is damaged: it ends too early")


def check_id(id_):
    size = len(id_.encode("utf-8", "surrogateescape"))
    if not 1 <= size <= 255 or any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in id_):
        raise Refusal(400, "invalid_id", "an id is 1 to 255 bytes of UTF-8 without control characters", "id")


def embed(data):
    check_picture(data)
    digest = hashlib.sha256(data).digest()
    vector = [digest[i] - 127.5 for i in range(DIM)]
    norm = math.sqrt(sum(v * v for v in vector))
    return [struct.unpack("<f", struct.pack("<f", v / norm))[0] for v in vector]


def parse_multipart(content_type, body):
    """[(name, file name or None, bytes)] in order."""
    boundary = re.search(r'boundary="?([^";]+)"?', content_type)
    if not boundary:
        raise Refusal(400, "invalid_multipart", "no boundary")
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary.group(1).encode())
    if len(parts) < 2 or parts[-1].strip(b"\r\n") != b"--":
        raise Refusal(400, "invalid_multipart", "the last boundary is missing")
    found = []
    for part in parts[1:-1]:
        head, _, data = part[2:].partition(b"\r\n\r\n")
        head = head.decode("utf-8")
        name = re.search(r'[; ]name="([^"]*)"', head)
        file_name = re.search(r'filename="([^"]*)"', head)
        found.append((name.group(1), file_name.group(1) if file_name else None, data))
    return found


class Catalogue:
    """What the server knows, and the faults that a test orders."""

    def __init__(self):
        self.items = {}  # id -> {"metadata", "data", "seq"}
        self.seq = 0
        self.generation = 3
        self.requests = []  # (method, target, headers, size of body)
        self.busy = []  # [(status, Retry-After or None[, method])]: answers given before anything else
        self.page_limit = 1000
        self.upload_images = 100000
        self.max_body_bytes = 1 << 20
        self.busy_ids = set()  # refused once each within POST /items
        self.refuse_many = False  # POST /items answers with 400, as a proxy might
        self.cut_export = False
        self.break_upload_after = None  # POST /items: so many results, then an error line
        self.slow = 0.0

    def put(self, id_, data, metadata):
        check_id(id_)
        embed(data)
        self.seq += 1
        old = self.items.get(id_)
        kept = metadata if metadata is not None else old["metadata"] if old else {}
        self.items[id_] = {"metadata": kept, "data": data, "seq": self.seq}
        return 200 if old else 201

    def describe(self, id_):
        item = self.items[id_]
        return {"id": id_, "metadata": item["metadata"], "media_type": "image/png",
                "sha256": hashlib.sha256(item["data"]).hexdigest(), "bytes": len(item["data"]), "width": 32,
                "height": 32, "created": "2025-01-01T00:00:00Z", "updated": "2025-01-01T00:00:00Z",
                "seq": item["seq"]}

    def sorted_ids(self):
        return sorted(self.items, key=lambda id_: id_.encode("utf-8"))

    def fulfil(self, filter_text):
        """The ids under a filter of the form {"must": [{"key", "match"}]}; others are refused as the server would."""
        if filter_text is None:
            return set(self.items)
        try:
            conditions = [(c["key"], c["match"]) for c in json.loads(filter_text)["must"]]
        except (ValueError, KeyError, TypeError) as error:
            raise Refusal(400, "invalid_argument", "filter: a filter has must", "filter") from error
        return {id_ for id_, item in self.items.items() if all(item["metadata"].get(k) == v for k, v in conditions)}

    def neighbors(self, vector, k, leave_out=None, filter_text=None):
        fulfil = self.fulfil(filter_text)
        scored = [(sum(a * b for a, b in zip(vector, embed(item["data"]))), id_)
                  for id_, item in self.items.items() if id_ != leave_out and id_ in fulfil]
        scored.sort(key=lambda s: (-s[0], s[1].encode("utf-8")))
        return {"model": "fake", "generation": self.generation,
                "neighbors": [{"id": id_, "score": score, "metadata": self.items[id_]["metadata"]}
                              for score, id_ in scored[:k]]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body=b"", kind="application/json", headers=()):
        if not isinstance(body, bytes):
            body = (json.dumps(body, ensure_ascii=False) + "\n").encode("utf-8", "surrogateescape")
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("X-Likeness-Generation", str(self.server.catalogue.generation))
        if status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        try:
            self.end_headers()
            self.wfile.write(body)
        except OSError:  # the client has left
            self.close_connection = True

    def handle_any(self):
        catalogue = self.server.catalogue
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with catalogue_lock:
            catalogue.requests.append((self.command, self.path, dict(self.headers), len(body)))
            wanted = catalogue.busy and (len(catalogue.busy[0]) < 3 or catalogue.busy[0][2] == self.command)
            busy = catalogue.busy.pop(0) if wanted else None
        if catalogue.slow:
            time.sleep(catalogue.slow)
        if busy:
            self.reply(busy[0], {"error": {"code": "overloaded", "message": "too much work waits", "param": None}},
                       headers=[("Retry-After", str(busy[1]))] if busy[1] is not None else [])
            return
        try:
            url = urlsplit(self.path)
            if len(body) > catalogue.max_body_bytes and (self.command, url.path) != ("POST", "/items"):
                raise Refusal(413, "body_too_large", "a body may have %d bytes" % catalogue.max_body_bytes)
            self.route(catalogue, url.path, dict(parse_qsl(url.query, keep_blank_values=True)), body)
        except Refusal as refusal:
            self.reply(refusal.status, {"error": refusal.body})

    do_GET = do_POST = do_PUT = do_DELETE = handle_any

    def route(self, catalogue, path, query, body):
        item = re.fullmatch(r"/items/([^/]+)(/image)?", path)
        known = {("POST", "/embed"): self.post_embed, ("POST", "/neighbors"): self.post_neighbors,
                 ("GET", "/neighbors"): self.get_neighbors, ("GET", "/items"): self.list_items,
                 ("POST", "/items"): self.post_items, ("GET", "/model"): self.get_model,
                 ("GET", "/export"): self.get_export}
        if item:
            id_ = unquote(item.group(1), errors="surrogateescape")
            self.one_item(catalogue, id_, bool(item.group(2)), query, body)
        elif (self.command, path) in known:
            known[self.command, path](catalogue, query, body)
        elif self.command == "GET" and (path == "/" or path.startswith("/web/")):
            self.page_file(path)
        else:
            raise Refusal(404, "not_found", "no such route")

    def page_file(self, path):
        name = "index.html" if path == "/" else os.path.basename(path)
        kinds = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css"}
        try:
            with open(os.path.join(ROOT, "server", "web", name), "rb") as file:
                self.reply(200, file.read(), kinds[os.path.splitext(name)[1]],
                           headers=[("Content-Security-Policy", "default-src 'self'; img-src 'self' blob: data:")])
        except (OSError, KeyError):
            raise Refusal(404, "not_found", "no such file")

    def get_model(self, catalogue, _query, _body):
        self.reply(200, {"model": "fake", "generation": catalogue.generation, "space": "0" * 64, "dim": DIM,
                         "image_size": 32, "architecture": "resnet18", "precision": "fp32", "device": "none",
                         "items": len(catalogue.items), "options": {},
                         "limits": {"max_body_bytes": catalogue.max_body_bytes, "max_images": 512,
                                    "upload_images": catalogue.upload_images, "max_k": 1000,
                                    "page_limit": catalogue.page_limit}})

    def post_embed(self, catalogue, _query, body):
        kind = self.headers.get("Content-Type", "")
        pictures = [body]
        if kind.startswith("multipart/form-data"):
            pictures = [data for _, _, data in parse_multipart(kind, body)]
        rows = []
        for index, data in enumerate(pictures):
            try:
                rows.append({"index": index, "embedding": embed(data)})
            except Refusal as refusal:
                rows.append({"index": index, "error": refusal.body})
        self.reply(200, {"model": "fake", "generation": catalogue.generation, "dim": DIM, "embeddings": rows})

    def post_neighbors(self, catalogue, query, body):
        self.reply(200, catalogue.neighbors(embed(body), int(query.get("k", 10)), None, query.get("filter")))

    def get_neighbors(self, catalogue, query, _body):
        if query["id"] not in catalogue.items:
            raise Refusal(404, "item_not_found", "there is no item '%s'" % query["id"], "id")
        vector = embed(catalogue.items[query["id"]]["data"])
        self.reply(200, catalogue.neighbors(vector, int(query.get("k", 10)), query["id"], query.get("filter")))

    def list_items(self, catalogue, query, _body):
        limit = int(query.get("limit", 100))
        if limit > catalogue.page_limit:
            raise Refusal(400, "invalid_argument", "limit is above %d" % catalogue.page_limit, "limit")
        after = query.get("after", "").encode("utf-8")
        fulfil = catalogue.fulfil(query.get("filter"))
        ids = [id_ for id_ in catalogue.sorted_ids() if id_.encode("utf-8") > after and id_ in fulfil]
        page = ids[:limit]
        self.reply(200, {"items": [catalogue.describe(id_) for id_ in page],
                         "next": page[-1] if len(ids) > limit else None})

    def post_items(self, catalogue, _query, body):
        if catalogue.refuse_many:
            raise Refusal(400, "invalid_argument", "not so many at once")
        lines, metadata = [], None
        for name, id_, data in parse_multipart(self.headers.get("Content-Type", ""), body):
            if id_ is None:
                metadata = json.loads(data) if name == "metadata" else None
                continue
            if catalogue.break_upload_after is not None and len(lines) == catalogue.break_upload_after:
                lines.append({"status": 400, "error": {"code": "invalid_multipart", "message": "the stream broke",
                                                       "param": None}})
                break
            try:
                if id_ in catalogue.busy_ids:
                    catalogue.busy_ids.remove(id_)
                    raise Refusal(429, "overloaded", "too much work waits")
                lines.append({"id": id_, "status": catalogue.put(id_, data, metadata)})
            except Refusal as refusal:
                lines.append({"id": id_, "status": refusal.status, "error": refusal.body})
            metadata = None
        text = "".join(json.dumps(line) + "\n" for line in lines)
        self.reply(200, text.encode("utf-8"), "application/x-ndjson")

    def one_item(self, catalogue, id_, image, query, body):
        if self.command == "PUT" and not image:
            metadata = json.loads(query["metadata"]) if "metadata" in query else None
            status = catalogue.put(id_, body, metadata)
            self.reply(status, catalogue.describe(id_))
            return
        check_id(id_)
        if id_ not in catalogue.items:
            raise Refusal(404, "item_not_found", "there is no item '%s'" % id_, "id")
        if self.command == "DELETE":
            del catalogue.items[id_]
            self.reply(204)
        elif image:
            self.reply(200, catalogue.items[id_]["data"], "image/png")
        else:
            self.reply(200, catalogue.describe(id_))

    def get_export(self, catalogue, _query, _body):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for id_ in catalogue.sorted_ids():
                name = quote(id_, safe="")
                for path, data in (("items/%s.json" % name, json.dumps(catalogue.describe(id_)).encode()),
                                   ("images/" + name, catalogue.items[id_]["data"])):
                    about = tarfile.TarInfo(path)
                    about.size = len(data)
                    tar.addfile(about, io.BytesIO(data))
        data = buffer.getvalue()
        self.reply(200, data[:512] if catalogue.cut_export else data, "application/x-tar")


catalogue_lock = threading.Lock()


class FakeServer:
    """with FakeServer() as server: server.url, server.catalogue"""

    def __init__(self, port=0):
        self.http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.http.daemon_threads = True
        self.catalogue = self.http.catalogue = Catalogue()
        self.url = "http://127.0.0.1:%d" % self.http.server_address[1]
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("folder", nargs="?")
    options = parser.parse_args()
    with FakeServer(options.port) as server:
        for folder, _, names in os.walk(options.folder or os.devnull):
            for name in names:
                path = os.path.join(folder, name)
                with open(path, "rb") as file:
                    server.catalogue.put(os.path.relpath(path, options.folder), file.read(), None)
        print("serving %d pictures at %s" % (len(server.catalogue.items), server.url), flush=True)
        try:
            server.thread.join()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
