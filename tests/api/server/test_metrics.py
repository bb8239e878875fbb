"""Is /metrics what Prometheus reads, do its counts add up, and does the log say the same of each request?"""
import json
import re
import socket
import threading
import time

import harness
from harness import DOCUMENT, Server, png, quote

CAT = png((200, 30, 10))
SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (-?[0-9.e+-]+|\+Inf|NaN)$')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"(?:,|$)')
NAME = re.compile(r"^(likeness|process)_[a-z_]+$")


def read(text):
    """{name: {labels: number}} and {family: type}; every rule of the text format that can be broken is checked."""
    values, types, helped, family = {}, {}, set(), None
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            family = line.split(" ", 3)[2]
            assert family not in helped, f"{family} is described twice"
            assert NAME.match(family), family
            helped.add(family)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == family and kind in ("counter", "gauge", "histogram"), line
            types[name] = kind
        else:
            match = SAMPLE.match(line)
            assert match, line
            name, labels, number = match.group(1), match.group(2) or "", float(match.group(3))
            base = re.sub("_(bucket|sum|count)$", "", name) if types.get(family) == "histogram" else name
            assert base == family, f"{name} stands among the samples of {family}"
            assert "".join(m.group(0) for m in LABEL.finditer(labels)) == labels, labels
            key = tuple(sorted((m.group(1), m.group(2)) for m in LABEL.finditer(labels)))
            assert key not in values.setdefault(name, {}), line
            values[name][key] = number
    assert set(types) == helped
    for name, kind in types.items():
        assert (kind == "counter") == name.endswith("_total"), name
        if kind == "histogram":
            check_histogram(name, values)
    return values, types


def check_histogram(name, values):
    series = {}
    for labels, number in values.get(name + "_bucket", {}).items():
        rest = tuple(l for l in labels if l[0] != "le")
        bound = dict(labels)["le"]
        series.setdefault(rest, []).append((float("inf") if bound == "+Inf" else float(bound), number))
    for rest, buckets in series.items():
        assert buckets == sorted(buckets) and buckets[-1][0] == float("inf"), (name, buckets)
        assert [n for _, n in buckets] == sorted(n for _, n in buckets), (name, buckets)
        assert buckets[-1][1] == values[name + "_count"][rest], name
        assert values[name + "_sum"][rest] >= 0


def metrics(s):
    answer = s.curl("/metrics")
    assert answer.status == 200 and answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8", answer
    return read(answer.body.decode())[0]


def total(m, name, **labels):
    return sum(n for key, n in m.get(name, {}).items() if set(labels.items()) <= set(key))


def settled(s):
    """The metrics once all that was asked before is counted, with a connection a request: a request is counted after its
    last byte is handed over, so a client may have read the answer before."""
    end = time.time() + 30
    while True:
        m = metrics(s)
        if total(m, "likeness_http_requests_total") == total(m, "likeness_http_connections_accepted_total") - 1:
            return m  # but for the asking one
        assert time.time() < end, m["likeness_http_requests_total"]
        time.sleep(0.01)


def test_counts_add_up():
    with Server("--max-batch", "4") as s:
        before = metrics(s)
        assert total(before, "likeness_index_items") == 0 and total(before, "likeness_generation") == 1
        for i in range(3):
            assert s.curl(f"/items/i{i}", data=png((10 * i, 30, 10)), method="PUT").status == 201
        assert s.curl("/items/i0", data=CAT, method="PUT").status == 200
        assert s.curl("/items/i2", method="DELETE").status == 204
        for i in range(5):
            s.embed(CAT)
        assert s.curl("/embed", data=b"no picture").status == 415
        assert s.curl("/neighbors?k=2", data=CAT).status == 200
        assert s.curl("/neighbors?id=i1").status == 200
        assert s.curl("/nowhere").status == 404
        assert s.curl("/items/i1", method="HEAD").status == 200
        m = settled(s)
        requests = "likeness_http_requests_total"
        for method, route, status, n in (("PUT", "/items/{id}", 201, 3), ("PUT", "/items/{id}", 200, 1),
                                         ("DELETE", "/items/{id}", 204, 1), ("POST", "/embed", 200, 5),
                                         ("POST", "/embed", 415, 1), ("POST", "/neighbors", 200, 1),
                                         ("GET", "/neighbors", 200, 1), ("", "", 404, 1), ("GET", "/items/{id}", 200, 1)):
            assert total(m, requests, method=method, route=route, status=str(status)) == n, (method, route, status, m[requests])
        for method, route in {(dict(k)["method"], dict(k)["route"]) for k in m[requests]}:
            assert not route or method.lower() in DOCUMENT["paths"][route], route
            count = total(m, "likeness_http_request_duration_seconds_count", method=method, route=route)
            assert count == total(m, requests, method=method, route=route)
        stage = "likeness_stage_duration_seconds_count"
        pictures = 4 + 5 + 1  # put, embed, neighbors; what is no picture is not decoded
        assert total(m, stage, stage="decode") - pictures in (0, 1), m[stage]
        assert total(m, stage, stage="queue") == total(m, stage, stage="inference") == pictures
        assert total(m, stage, stage="search") == 2 and total(m, stage, stage="write") == 5
        assert total(m, "likeness_batch_pictures_sum") == pictures
        assert 1 <= total(m, "likeness_batch_pictures_count") <= pictures
        assert total(m, "likeness_index_items") == 2 and total(m, "likeness_index_tombstones") == 2
        assert total(m, "likeness_http_request_bytes_total") >= pictures * len(CAT) - 100
        assert total(m, "likeness_http_response_bytes_total") > 1000
        assert total(m, "process_resident_memory_bytes") > 5e6 and total(m, "process_open_fds") > 5
        assert abs(total(m, "process_start_time_seconds") - time.time()) < 120, total(m, "process_start_time_seconds")
        assert total(m, "process_cpu_seconds_total") > 0
        assert total(m, requests, route="/metrics") >= 1 and total(m, requests) - total(m, requests, route="/metrics") == 15
        assert total(m, "likeness_http_connections") == 1
        for name in before:  # counters never fall
            if name.endswith(("_total", "_count", "_bucket")):
                assert all(m[name].get(k, -1) >= n for k, n in before[name].items()), name


def test_what_is_dropped_and_refused_is_counted():
    with Server("--queue", "4", "--max-images", "4", "--max-batch", "1", "--max-delay-us", "100000") as s:
        answers = []
        body = json.dumps({"images": [harness.b64(CAT)] * 4}).encode()
        threads = [threading.Thread(target=lambda: answers.append(s.curl(
            "/embed", data=body, headers=["Content-Type: application/json"]).status)) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        m = settled(s)
        refused = answers.count(429)
        assert total(m, "likeness_http_requests_total", status="429") == refused
        assert total(m, "likeness_pictures_refused_total") <= 4 * refused
        assert refused == 0 or total(m, "likeness_pictures_refused_total") > 0 or refused < 8
    with Server("--max-delay-us", "100000") as s:
        tries = 0
        while True:  # a busy machine may not look in time, so more than once
            tries += 1
            gone = socket.create_connection(("127.0.0.1", s.port))
            gone.sendall(b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(CAT) + CAT)
            time.sleep(0.02)
            gone.close()
            late = s.curl("/embed", data=CAT, headers=["X-Request-Timeout-Ms: 20"]).status
            time.sleep(0.2)
            m = settled(s)
            dropped = [total(m, "likeness_pictures_dropped_total", reason=r) for r in ("late", "gone")]
            if late == 504 and dropped[1] > 0:
                break
            assert tries < 20, (late, dropped)
        assert 1 <= dropped[0] <= tries and dropped[1] <= tries, dropped
        assert total(m, "likeness_http_requests_total", status="504") == dropped[0]
        assert dropped[1] <= total(m, "likeness_http_requests_total", status="499") <= tries, m["likeness_http_requests_total"]


def test_a_reader_in_the_middle_sees_whole_numbers():
    with Server() as s:
        stop = threading.Event()

        def load():
            c = s.connection()
            while not stop.is_set():
                c.request("POST", "/embed", body=CAT)
                assert c.getresponse().read()
            c.close()

        threads = [threading.Thread(target=load) for _ in range(3)]
        for t in threads:
            t.start()
        last = 0
        for _ in range(20):
            n = total(metrics(s), "likeness_http_requests_total", route="/embed")
            assert n >= last
            last = n
        stop.set()
        for t in threads:
            t.join()
        assert last > 0


def test_the_log_has_a_line_of_json_a_request():
    with Server("--log-format", "json") as s:
        nasty = 'a"b\\c\x01ü'
        assert s.curl("/items/" + quote("x") + "?metadata=" + quote(json.dumps({"t": nasty})), data=CAT, method="PUT",
                      headers=["X-Request-Id: put-1"]).status == 201
        assert s.curl("/neighbors", data=CAT, headers=["X-Request-Id: ask-1"]).status == 200
        assert s.curl('/"quoted"\\', headers=["X-Request-Id: odd-1"]).status == 404
        m = settled(s)
        s.curl("/livez")
        assert s.stop() == 0  # a request's line is written after its answer
        lines = [json.loads(line) for line in s.log().splitlines()]
    for line in lines:
        assert {"time", "level", "message"} <= set(line), line
        assert re.match(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", line["time"]), line
    requests = {line["id"]: line for line in lines if line["message"] == "request"}
    put, ask, odd = requests["put-1"], requests["ask-1"], requests["odd-1"]
    assert (put["method"], put["route"], put["status"], put["generation"], put["in"]) == ("PUT", "/items/{id}", 201, 1, len(CAT))
    assert put["decode_ms"] > 0 and put["queue_ms"] > 0 and put["inference_ms"] > 0 and put["write_ms"] > 0
    assert put["decode_ms"] + put["inference_ms"] + put["write_ms"] <= put["ms"] + 0.1, put
    assert ask["search_ms"] > 0 and ask["decode_ms"] > 0 and "write_ms" not in ask and ask["key"] == "-" and ask["out"] > 50
    assert odd["status"] == 404 and odd["route"] == "-"
    assert total(m, "likeness_http_requests_total") + 2 == len(requests), "a line a request"  # /metrics itself and /livez


def test_metrics_need_a_key_or_the_option():
    import tempfile
    import pathlib
    with tempfile.TemporaryDirectory() as folder:
        keys = pathlib.Path(folder) / "keys"
        keys.write_text("read scraper scraper-key-0123456789\n")
        keys.chmod(0o600)
        with Server("--keys", str(keys)) as s:
            assert s.curl("/metrics").status == 401
            assert s.curl("/metrics", headers=["Authorization: Bearer scraper-key-0123456789"]).status == 200
        with Server("--keys", str(keys), "--open-metrics") as s:
            assert s.curl("/metrics").status == 200 and s.curl("/model").status == 401


harness.main(globals())
