"""Do filters do over HTTP what the document says: in every place that takes one, and with their limits?"""
import json

import harness
from harness import Server, ask, b64, png, quote, refused

COLOURS = {"red": (220, 30, 20), "green": (30, 200, 40), "blue": (20, 40, 210)}


def picture(i):
    base = list(COLOURS.values())[i % 3]
    return png(tuple((c + 7 * i) % 256 for c in base))


def fill(s, n=60):
    """item-00.. with {"n": i, "colour": ..., "tags": [...], "shot": {"at": time}}; every seventh has no metadata."""
    names = list(COLOURS)
    for i in range(n):
        metadata = {"n": i, "colour": names[i % 3], "tags": [f"t{i % 4}", f"u{i % 5}"],
                    "shot": {"at": f"2024-01-{1 + i % 28:02d}T12:00:00Z"}}
        assert s.put(f"item-{i:02d}", picture(i), metadata if i % 7 else None).status == 201


def ids(found):
    return [h["id"] for h in found]


def names(numbers):
    return {f"item-{i:02d}" for i in numbers}


FILTERS = [
    ({}, lambda i: True),
    ({"must": [{"key": "colour", "match": "red"}]}, lambda i: i % 7 and i % 3 == 0),
    ({"must_not": [{"key": "colour", "match": "red"}]}, lambda i: not (i % 7 and i % 3 == 0)),
    ({"should": [{"key": "tags", "match": "t1"}, {"key": "tags", "match": "u2"}]},
     lambda i: i % 7 and (i % 4 == 1 or i % 5 == 2)),
    ({"must": [{"key": "n", "range": {"gte": 10, "lt": 20}}], "must_not": [{"key": "tags", "any": ["u0", "u1"]}]},
     lambda i: i % 7 and 10 <= i < 20 and i % 5 not in (0, 1)),
    ({"must": [{"key": "shot.at", "range": {"gt": "2024-01-20T13:00:00+01:00"}}]}, lambda i: i % 7 and 1 + i % 28 > 20),
    ({"must": [{"key": "n", "exists": False}]}, lambda i: i % 7 == 0),
    ({"must": [{"must_not": [{"key": "n", "exists": True}]}]}, lambda i: i % 7 == 0),
    ({"must": [{"key": "n", "match": -1}]}, lambda i: False),
]


def test_a_filter_holds_in_every_form_of_a_search():
    with Server() as s:
        fill(s)
        vector = s.embed(picture(1))
        everything = ask(s, "/neighbors", {"vector": vector, "k": 1000}).json()["neighbors"]
        assert len(everything) == 60
        for spec, fits in FILTERS:
            wanted = names(i for i in range(60) if fits(i))
            ranked = [h for h in everything if h["id"] in wanted]
            for k in (5, 1000):
                found = ask(s, "/neighbors", {"vector": vector, "k": k, "filter": spec}).json()["neighbors"]
                assert found == ranked[:k], (spec, k, ids(found), ids(ranked))
            text = quote(json.dumps(spec))
            found = s.curl(f"/neighbors?k=1000&filter={text}", data=picture(1)).json()["neighbors"]
            assert set(ids(found)) == wanted, spec
            found = ask(s, "/neighbors", {"image": b64(picture(1)), "k": 1000, "filter": spec}).json()["neighbors"]
            assert set(ids(found)) == wanted, spec
            for by_id in (s.curl(f"/neighbors?id=item-09&k=1000&filter={text}"),
                          ask(s, "/neighbors", {"id": "item-09", "k": 1000, "filter": spec})):
                assert set(ids(by_id.json()["neighbors"])) == wanted - {"item-09"}, spec
        s.alive()


def test_each_of_many_queries_has_its_own_filter_or_the_common_one():
    with Server() as s:
        fill(s)
        body = {"k": 1000, "filter": FILTERS[1][0],
                "queries": [{"id": "item-01"}, {"id": "item-01", "filter": FILTERS[4][0]}, {"id": "item-01", "filter": {}}]}
        results = [set(ids(r["neighbors"])) for r in ask(s, "/neighbors", body).json()["results"]]
        assert results[0] == names(i for i in range(60) if FILTERS[1][1](i))
        assert results[1] == names(i for i in range(60) if FILTERS[4][1](i))
        assert results[2] == names(range(60)) - {"item-01"}


def test_a_filter_goes_with_min_score_and_a_changed_item():
    with Server() as s:
        fill(s)
        vector = s.embed(picture(4))
        red = {"must": [{"key": "colour", "match": "red"}]}
        found = ask(s, "/neighbors", {"vector": vector, "k": 1000, "filter": red}).json()["neighbors"]
        least = found[3]["score"] - 1e-6
        cut = ask(s, "/neighbors", {"vector": vector, "k": 1000, "filter": red, "min_score": least}).json()["neighbors"]
        assert cut == [h for h in found if h["score"] >= least]
        assert s.curl("/items/" + found[0]["id"], data=b'{"colour":"black"}', method="PATCH",
                      headers=["Content-Type: application/json"]).status == 200
        assert s.curl("/items/" + found[1]["id"], method="DELETE").status == 204
        again = ask(s, "/neighbors", {"vector": vector, "k": 1000, "filter": red}).json()["neighbors"]
        assert again == found[2:]


def test_the_list_is_filtered_page_by_page():
    with Server("--page-limit", "9") as s:
        fill(s)
        for spec, fits in FILTERS:
            wanted = sorted(names(i for i in range(60) if fits(i)))
            seen, target, pages = [], f"/items?limit=4&filter={quote(json.dumps(spec))}", 0
            while target:
                page = s.curl(target).json()
                assert len(page["items"]) == 4 or page["next"] is None
                seen += [i["id"] for i in page["items"]]
                pages += 1
                target = page["next"] and f"/items?limit=4&after={quote(page['next'])}&filter={quote(json.dumps(spec))}"
            assert seen == wanted, spec
            assert pages == max(1, -(-len(wanted) // 4)), spec  # no empty page at the end


def test_limits_are_named():
    with Server("--max-filter-bytes", "200", "--max-filter-depth", "2", "--max-filter-conditions", "3") as s:
        fill(s, 1)
        limits = s.curl("/model").json()["limits"]
        assert (limits["max_filter_bytes"], limits["max_filter_depth"], limits["max_filter_conditions"]) == (200, 2, 3)
        long = {"must": [{"key": "a", "match": "x" * 300}]}
        deep = {"must": [{"must": [{"must": []}]}]}
        many = {"must": [{"key": "a", "any": [1, 2, 3]}]}
        for spec, limit in ((long, "max_filter_bytes"), (deep, "max_filter_depth"), (many, "max_filter_conditions")):
            refused(ask(s, "/neighbors", {"id": "item-00", "filter": spec}), 400, "invalid_argument", None, limit)
            refused(s.curl("/items?filter=" + quote(json.dumps(spec))), 400, "invalid_argument", None, limit)
        refused(s.curl("/items?filter=x"), 400, "invalid_json", "filter")
        refused(s.curl("/items?filter="), 400, "invalid_json", "filter")
        refused(s.curl("/neighbors?filter=[]", data=picture(0)), 400, "invalid_json", "filter")
        refused(s.curl("/neighbors?id=item-00&filter=%7B%22a%22:1%7D"), 400, "invalid_argument", "filter", "\"a\"")
        s.alive()


harness.main(globals())
