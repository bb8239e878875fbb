"""Does every route do what the document says, when it is asked rightly?"""
import hashlib
import http.client
import io
import json
import signal
import socket
import struct
import tarfile
import tempfile
import time

import harness
from harness import SAMPLES, Server, b64, cosine, png, quote, wait_until

CAT, DOG, SKY = png((200, 30, 10)), png((20, 180, 40)), png((10, 20, 230))
JPEG = SAMPLES[0].read_bytes()


def test_embed_takes_a_picture_in_every_form():
    with Server() as s:
        one = s.curl("/embed", data=CAT)
        body = one.json()
        assert one.status == 200 and body["model"] == "tiny" and body["generation"] == 1 and body["dim"] == 64
        assert one.headers["x-likeness-generation"] == "1"
        vector = body["embeddings"][0]["embedding"]
        assert len(vector) == 64 and abs(sum(x * x for x in vector) - 1) < 1e-5
        dog, jpeg = s.embed(DOG), s.embed(JPEG)
        assert cosine(vector, dog) < 0.99999
        text = json.dumps({"images": [b64(CAT), "data:image/png;base64," + b64(DOG), b64(JPEG)]}).encode()
        by_json = s.curl("/embed", data=text, headers=["Content-Type: application/json"]).json()["embeddings"]
        assert [e["index"] for e in by_json] == [0, 1, 2]
        for entry, want in zip(by_json, (vector, dog, jpeg)):
            assert cosine(entry["embedding"], want) > 0.99999
        parts = s.curl("/embed", "-F", f"a=@{SAMPLES[0]}", "-F", f"b=@{SAMPLES[1]}").json()["embeddings"]
        assert cosine(parts[0]["embedding"], jpeg) > 0.99999 and len(parts) == 2
        chunked = s.curl("/embed", data=CAT, headers=["Transfer-Encoding: chunked", "Content-Type: image/png"]).json()
        assert cosine(chunked["embeddings"][0]["embedding"], vector) > 0.99999
        wrong_type = s.curl("/embed", data=CAT, headers=["Content-Type: image/jpeg"])
        assert wrong_type.status == 200  # the first bytes count


def test_embed_answers_in_binary():
    with Server() as s:
        want = s.embed(CAT)
        raw = s.curl("/embed", data=CAT, headers=["Accept: application/octet-stream"])
        assert raw.headers["content-type"] == "application/octet-stream" and len(raw.body) == 256
        assert raw.headers["x-likeness-generation"] == "1"
        assert cosine(struct.unpack("<64f", raw.body), want) > 0.99999
        body = json.dumps({"images": [b64(CAT), b64(DOG)]}).encode()
        npy = s.curl("/embed", data=body, headers=["Content-Type: application/json",
                                                   "Accept: text/html;q=1, application/x-npy;q=0.9, */*;q=0.1"]).body
        assert npy[:8] == b"\x93NUMPY\x01\0"
        length = struct.unpack("<H", npy[8:10])[0]
        assert (10 + length) % 64 == 0 and b"'shape': (2, 64)" in npy[10:10 + length] and npy[9 + length] == 10
        assert cosine(struct.unpack("<64f", npy[10 + length:][:256]), want) > 0.99999
        assert len(npy) == 10 + length + 512
        bad = json.dumps({"images": [b64(CAT), b64(b"nothing")]}).encode()
        one_bad = s.curl("/embed", data=bad, headers=["Content-Type: application/json", "Accept: application/x-npy"])
        assert one_bad.status == 415 and one_bad.json()["error"]["param"] == "images[1]"


def test_a_bad_picture_among_many_stands_in_its_place():
    with Server() as s:
        images = [b64(CAT), b64(b"GIF89a"), b64(CAT[:-30]), "!!!", b64(DOG), ""]
        answer = s.curl("/embed", data=json.dumps({"images": images}).encode(), headers=["Content-Type: application/json"])
        entries = answer.json()["embeddings"]
        assert answer.status == 200 and [e["index"] for e in entries] == list(range(6))
        assert [e.get("error", {}).get("code") for e in entries] == [
            None, "unsupported_image_format", "undecodable_image", "invalid_argument", None, "empty_body"]
        assert all(("embedding" in e) != ("error" in e) for e in entries)


def fill(s):
    for name, data in (("cat", CAT), ("dog", DOG), ("sky", SKY), ("photo", JPEG)):
        assert s.put(name, data, {"name": name}).status == 201


def test_neighbors_by_picture_vector_and_id():
    with Server() as s:
        assert s.curl("/neighbors", data=CAT).json()["neighbors"] == []
        fill(s)
        answer = s.curl("/neighbors?k=3", data=CAT)
        found = answer.json()
        assert found["model"] == "tiny" and found["generation"] == 1 and answer.headers["x-likeness-generation"] == "1"
        hits = found["neighbors"]
        assert len(hits) == 3 and hits[0]["id"] == "cat" and hits[0]["score"] > 0.9999
        assert hits[0]["metadata"] == {"name": "cat"}
        assert [h["score"] for h in hits] == sorted((h["score"] for h in hits), reverse=True)
        as_json = ["Content-Type: application/json"]
        vector = [3 * x for x in s.embed(CAT)]  # of any length
        for query in ({"image": b64(CAT)}, {"vector": vector}):
            other = s.curl("/neighbors", data=json.dumps({**query, "k": 3}).encode(), headers=as_json).json()["neighbors"]
            assert [h["id"] for h in other] == [h["id"] for h in hits]
        by_id = s.curl("/neighbors", data=b'{"id":"cat","with_metadata":false}', headers=as_json).json()["neighbors"]
        assert len(by_id) == 3 and all(h["id"] != "cat" and "metadata" not in h for h in by_id)
        assert s.curl("/neighbors?id=cat&with_metadata=false").json()["neighbors"] == by_id
        least = hits[1]["score"]
        cut = s.curl(f"/neighbors?min_score={least - 1e-4}", data=CAT).json()["neighbors"]
        assert [h["id"] for h in cut] == [h["id"] for h in hits if h["score"] >= least - 1e-4]
        assert s.curl("/neighbors?generation=1", data=CAT).status == 200


def test_many_queries_in_one_request():
    with Server() as s:
        fill(s)
        queries = {"k": 2, "queries": [{"id": "cat"}, {"image": b64(DOG), "k": 1}, {"id": "absent"}, {"image": b64(b"x")},
                                       {"vector": s.embed(SKY), "with_metadata": False}]}
        answer = s.curl("/neighbors", data=json.dumps(queries).encode(), headers=["Content-Type: application/json"])
        results = answer.json()["results"]
        assert len(results[0]["neighbors"]) == 2
        assert [h["id"] for h in results[1]["neighbors"]] == ["dog"]
        assert results[2]["error"]["code"] == "item_not_found"
        assert results[3]["error"]["code"] == "unsupported_image_format"
        assert results[3]["error"]["param"] == "queries[3].image" or results[3]["error"]["param"] == "image"
        assert results[4]["neighbors"][0]["id"] == "sky" and "metadata" not in results[4]["neighbors"][0]


def test_equal_scores_are_ordered_by_id():
    with Server() as s:
        for name in ("b", "a", "d", "c"):
            s.put(name, CAT)
        assert [h["id"] for h in s.curl("/neighbors?k=3", data=CAT).json()["neighbors"]] == ["a", "b", "c"]


def test_an_item_lives_and_dies():
    with Server() as s:
        made = s.put("cat.png", CAT, {"a": 1, "b": {"c": 2}})
        item = made.json()
        assert made.status == 201 and item["id"] == "cat.png" and item["metadata"] == {"a": 1, "b": {"c": 2}}
        assert item["media_type"] == "image/png" and item["bytes"] == len(CAT)
        assert (item["width"], item["height"]) == (32, 32) and len(item["sha256"]) == 64
        assert s.curl("/items/cat.png").json() == item
        kept = s.put("cat.png", DOG)
        assert kept.status == 200 and kept.json()["metadata"] == item["metadata"] and kept.json()["seq"] > item["seq"]
        assert s.curl("/items/cat.png/image").body == DOG
        assert s.curl("/neighbors?k=1", data=DOG).json()["neighbors"][0]["score"] > 0.9999  # the new picture is searched
        patched = s.curl("/items/cat.png", data=b'{"a":null,"b":{"d":3},"e":[4]}', method="PATCH",
                         headers=["Content-Type: application/merge-patch+json"])
        assert patched.status == 200 and patched.json()["metadata"] == {"b": {"c": 2, "d": 3}, "e": [4]}
        gone = s.curl("/items/cat.png", method="DELETE")
        assert gone.status == 204 and gone.body == b""
        assert s.curl("/items/cat.png").code == "item_not_found"
        assert s.curl("/items/cat.png/image").code == "item_not_found"
        assert s.curl("/items/cat.png", method="DELETE").code == "item_not_found"
        assert s.curl("/neighbors?id=cat.png").code == "item_not_found"
        assert s.curl("/neighbors", data=DOG).json()["neighbors"] == []


def test_the_picture_comes_back_as_it_was_with_an_etag():
    with Server() as s:
        s.put("photo", JPEG)
        answer = s.curl("/items/photo/image")
        assert answer.body == JPEG and answer.headers["content-type"] == "image/jpeg"
        again = s.curl("/items/photo/image", headers=["If-None-Match: " + answer.headers["etag"]])
        assert again.status == 304 and again.body == b""
        head = s.curl("/items/photo/image", method="HEAD")
        assert head.status == 200 and int(head.headers["content-length"]) == len(JPEG) and head.body == b""


def test_an_answer_to_head_is_headers_alone():
    with Server() as s:
        s.put("photo", JPEG)
        for target in ("/export", "/model/weights", "/items/photo/image", "/metrics", "/"):
            with socket.create_connection(("127.0.0.1", s.port)) as c:
                c.sendall(b"HEAD " + target.encode() + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
                answer = c.recv(65536)
                c.settimeout(0.5)
                try:
                    answer += c.recv(65536)  # what is here would begin the next answer
                except TimeoutError:
                    pass
            assert answer.startswith(b"HTTP/1.1 200 ") and answer.index(b"\r\n\r\n") == len(answer) - 4, (target, answer)


def test_ids_of_every_kind():
    names = ["a/b", "ä ö", "..", ".", "a%2Fb", "x" * 255, "日本.png", "a b+c&d=e?f#g", '"quoted"', "image"]
    with Server() as s:
        for name in names:
            assert s.put(name, CAT, {"name": name}).status == 201, name
        for name in names:
            assert s.curl("/items/" + quote(name)).json()["id"] == name
            assert s.curl("/neighbors?k=1&id=" + quote(name)).status == 200
        listed = [i["id"] for i in s.curl("/items").json()["items"]]
        assert listed == sorted(names, key=lambda n: n.encode())
        tar = tarfile.open(fileobj=io.BytesIO(s.curl("/export").body))
        assert len(tar.getmembers()) == 2 * len(names)


def test_the_list_turns_pages():
    with Server("--page-limit", "7") as s:
        s.upload({f"item-{i:03d}": CAT for i in range(23)})
        seen, target = [], "/items?limit=5"
        while target:
            page = s.curl(target).json()
            seen += [i["id"] for i in page["items"]]
            assert len(page["items"]) == 5 or page["next"] is None
            target = "/items?limit=5&after=" + quote(page["next"]) if page["next"] else None
        assert seen == [f"item-{i:03d}" for i in range(23)]
        assert s.curl("/items?limit=7").json()["next"] == "item-006"
        assert s.curl("/items?limit=8").code == "invalid_argument"
        assert s.curl("/items?after=zzz").json() == {"items": [], "next": None}


def test_an_upload_has_a_line_a_picture_in_order():
    with Server() as s:
        files = [("one", CAT), ("bad", b"not a picture"), ("two/2", DOG), ("one", SKY), ("cut", CAT[:-20]), ('q"', JPEG)]
        lines = s.upload(files).lines()
        assert [(l["id"], l["status"]) for l in lines] == [("one", 201), ("bad", 415), ("two/2", 201), ("one", 200),
                                                           ("cut", 422), ('q"', 201)]
        assert lines[1]["error"]["code"] == "unsupported_image_format"
        assert s.curl("/items/one/image").body == SKY
        assert [i["id"] for i in s.curl("/items").json()["items"]] == ["one", 'q"', "two/2"]


def test_an_upload_takes_metadata_for_the_picture_that_follows():
    with Server() as s:
        path = str(SAMPLES[0])
        lines = s.curl("/items", "-F", 'metadata={"a":1}', "-F", f"f=@{path};filename=one", "-F",
                       f"f=@{path};filename=two", "-F", "metadata=[1]", "-F", f"f=@{path};filename=three", "-F",
                       "other=x").lines()
        assert [(l.get("id"), l["status"]) for l in lines] == [("one", 201), ("two", 201), ("three", 400), (None, 400)]
        assert lines[2]["error"]["code"] == "invalid_json" and lines[3]["error"]["code"] == "invalid_id"
        assert s.curl("/items/one").json()["metadata"] == {"a": 1}
        assert s.curl("/items/two").json()["metadata"] == {}


def test_a_long_upload_is_stored_in_groups():
    with Server("--max-body-bytes", "64k", "--body-memory-bytes", "128k") as s:  # the body is far longer than that
        files = [(f"{p.parent.name}/{p.name}", p.read_bytes()) for p in SAMPLES[:400]]
        files.insert(200, ("big", png((1, 2, 3), 100, 100) + bytes(70000)))
        for extra in ((), ("-H", "Transfer-Encoding: chunked"), ("-H", "Expect:")):
            lines = s.upload(files, *extra).lines()
            assert [l["id"] for l in lines] == [name for name, _ in files]
            assert {l["status"] for l in lines if l["id"] != "big"} == {201 if extra == () else 200}
            assert lines[200]["error"]["code"] == "body_too_large"
        assert s.curl("/model").json()["items"] == 400


def test_the_export_is_a_tar_of_pictures_and_items():
    with Server() as s:
        empty = tarfile.open(fileobj=io.BytesIO(s.curl("/export").body))
        assert empty.getmembers() == []
        files = {f"{p.parent.name}/{p.name}": p.read_bytes() for p in SAMPLES[:300]}
        s.upload(files)
        s.put("x" * 200, CAT, {"long": True})
        files["x" * 200] = CAT
        tar = tarfile.open(fileobj=io.BytesIO(s.curl("/export").body))
        members = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}
        assert len(members) == 602
        for name, data in files.items():
            assert members["images/" + quote(name)] == data
            item = json.loads(members["items/" + quote(name) + ".json"])
            assert item["id"] == name and (name[0] != "x" or item == s.curl("/items/" + quote(name)).json())


def test_the_model_is_described_with_every_limit():
    with Server("--max-k", "77", "--idle-timeout-seconds", "12.5") as s:
        answer = s.curl("/model")
        model = answer.json()
        assert answer.headers["x-likeness-generation"] == "1" and len(model["space"]) == 64
        assert (model["model"], model["generation"], model["dim"], model["image_size"]) == ("tiny", 1, 64, 32)
        assert (model["architecture"], model["stem"], model["width"], model["method"]) == ("resnet18", "cifar", 8, "random")
        assert model["limits"]["max_k"] == 77 and model["limits"]["idle_timeout_seconds"] == 12.5
        assert model["limits"]["queue"] == 1024 and model["options"]["max_batch"] == 32
        assert all(isinstance(v, (int, float)) for v in model["limits"].values())
        shown = set(model["limits"]) | set(model["options"])
        named = {name.replace("-", "_") for name in print_config()}
        assert shown == named, shown ^ named


def print_config():
    import subprocess
    run = subprocess.run([str(harness.BIN / "likeness-server"), "--print-config"], stdout=subprocess.PIPE, check=True)
    return json.loads(run.stdout)


def test_a_published_model_takes_over_and_serves_after_a_restart():
    with tempfile.TemporaryDirectory() as folder:
        other = harness.model_file(folder, "other-9.safetensors").read_bytes()
        with Server(folder=folder) as s:
            s.put("cat", CAT), s.put("dog", DOG)
            assert s.published()["state"] == "idle"
            before, old = s.embed(CAT), s.curl("/model").json()
            answer = s.curl("/model", data=other, method="PUT")
            assert answer.status == 202 and answer.headers["location"] == "/model/status", answer
            done = s.published()
            assert (done["state"], done["embedded"], done["failed"], done["error"]) == ("done", 2, 0, None), done
            assert (done["from_generation"], done["to_generation"]) == (1, 2), done
            now = s.curl("/model").json()
            assert now["generation"] == 2 and now["space"] != old["space"] and now["items"] == 2
            after = s.embed(CAT)
            assert cosine(before, after) < 0.999
            hit = s.curl("/neighbors?k=1", data=CAT).json()
            assert hit["generation"] == 2 and hit["neighbors"][0]["id"] == "cat" and hit["neighbors"][0]["score"] > 0.9999
            s.curl("/model", data=other, method="PUT")
            assert s.published()["unchanged"] is True and s.curl("/model").json()["generation"] == 2
        with Server(folder=folder) as s:
            assert s.curl("/model").json()["generation"] == 2 and cosine(s.embed(CAT), after) > 0.9999
            assert s.curl("/model/reload", method="POST").status == 202  # back to the file of --model
            assert s.published()["to_generation"] == 3 and cosine(s.embed(CAT), before) > 0.9999
            s.process.send_signal(signal.SIGHUP)
            time.sleep(0.3)
            assert s.published()["unchanged"] is True


def test_the_weights_are_the_file_that_serves():
    with tempfile.TemporaryDirectory() as folder, Server(folder=folder) as s:
        first, other = s.model.read_bytes(), harness.model_file(folder, "other-2.safetensors").read_bytes()
        answer = s.curl("/model/weights")
        assert answer.body == first and answer.headers["x-likeness-generation"] == "1"
        assert answer.headers["etag"] == f'"{hashlib.sha256(first).hexdigest()}"'
        s.model.write_bytes(other)  # behind the server's back: nobody may take that for what serves
        connection = s.connection()
        connection.request("GET", "/model/weights")
        try:
            connection.getresponse().read()
            raise AssertionError("a file that was written over is handed out whole")
        except http.client.IncompleteRead:
            pass
        wait_until(lambda: "written over" in s.log())
        assert s.curl("/model", data=other, method="PUT").status == 202 and s.published()["to_generation"] == 2
        assert s.curl("/model/weights").body == other
        assert s.curl("/model/weights?x=1").code == "invalid_argument"


def test_probes_page_and_document():
    with Server() as s:
        assert s.curl("/livez").json() == {"live": True}
        assert s.curl("/readyz").json()["ready"] is True
        assert s.curl("/healthz").json()["ready"] is True
        assert b"likeness_generation 1\n" in s.curl("/metrics").body
        assert s.curl("/openapi.json").json() == harness.DOCUMENT
        page = s.curl("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8" and "content-security-policy" in page.headers
        for file, kind in (("app.js", "text/javascript"), ("style.css", "text/css"), ("index.html", "text/html")):
            answer = s.curl("/web/" + file)
            assert answer.headers["content-type"].startswith(kind)
            assert answer.body == (harness.SOURCE / "server/web" / file).read_bytes()
            assert s.curl("/web/" + file, headers=["If-None-Match: " + answer.headers["etag"]]).status == 304
        assert s.curl("/web/none.js").code == "not_found"


def test_a_scaled_jpeg_is_nearly_the_whole_one_and_its_size_the_real_one():
    jpeg = (harness.SOURCE / "tests/data/images/large-420.jpg").read_bytes()
    with Server() as whole, Server("--scaled-jpeg") as scaled:
        full, half = whole.embed(jpeg), scaled.embed(jpeg)
        assert full != half and cosine(full, half) > 0.99, cosine(full, half)
        assert whole.embed(CAT) == scaled.embed(CAT)  # a PNG has one way only
        items = [s.put("large", jpeg).json() for s in (whole, scaled)]
        for item in items:
            assert (item["width"], item["height"]) == (200, 150), item


def test_the_request_id_comes_back_and_stands_in_the_log():
    with Server() as s:
        assert s.curl("/livez", headers=["X-Request-Id: my.own-id_1"]).headers["x-request-id"] == "my.own-id_1"
        made = [s.curl("/livez", headers=["X-Request-Id: " + bad]).headers["x-request-id"] for bad in ("a b", "x" * 129, 'a"b')]
        assert all(len(i) == 16 for i in made) and len(set(made)) == 3
        s.curl("/embed", data=CAT, headers=["X-Request-Id: embed-1"])
        wait_until(lambda: "request id=embed-1 method=POST target=\"/embed\" status=200" in s.log())


def test_snapshots_are_made_listed_fetched_and_removed():
    """What they are worth is the question of test_snapshots.py."""
    with Server() as s:
        made = s.curl("/snapshots", method="POST").json()
        assert [x["name"] for x in s.curl("/snapshots").json()["snapshots"]] == [made["name"]]
        assert len(s.curl("/snapshots/" + made["name"]).body) == made["bytes"]
        assert s.curl("/snapshots/" + made["name"], method="DELETE").status == 204


def test_every_route_of_the_document_was_asked():
    documented = {(m, p) for p, methods in harness.DOCUMENT["paths"].items() for m in methods if m != "parameters"}
    if len(__import__("sys").argv) == 1:
        assert harness.routes_seen == documented, documented ^ harness.routes_seen


harness.main(globals())
