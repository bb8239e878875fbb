"""Does the likeness command do what its --help says? Against fake_server.py, so that a server's faults can be ordered."""

import hashlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest

from fake_server import DIM, PNG, FakeServer, embed

LIKENESS = os.path.join(os.environ.get("LK_BIN_DIR", ""), "likeness")


def picture(text):
    return PNG + text.encode("utf-8")


class Case(unittest.TestCase):
    def setUp(self):
        self.server = FakeServer().__enter__()
        self.catalogue = self.server.catalogue
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.addCleanup(self.server.__exit__)

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def write(self, name, data):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
        return path

    def run_likeness(self, *arguments, code=0, stdin=None, env=None, server=True):
        environment = {k: v for k, v in os.environ.items() if k != "LIKENESS_SERVER"}
        environment.update(env or {})
        command = [LIKENESS, *arguments] + (["--server", self.server.url] if server else [])
        done = subprocess.run(command, capture_output=True, input=stdin, env=environment, timeout=60)
        self.out, self.err = done.stdout.decode("utf-8", "surrogateescape"), done.stderr.decode("utf-8", "replace")
        self.raw = done.stdout
        self.assertEqual(done.returncode, code, "exit status of %s\n%s%s" % (arguments, self.out, self.err))
        return self.out

    def requests(self, method):
        return [r[1] for r in self.catalogue.requests if r[0] == method]


class Add(Case):
    def test_the_id_of_a_picture_in_a_folder_is_its_path_below_it(self):
        for name in ("photos/a.png", "photos/cats/b.JPG", "photos/cats/old/c.jpeg"):
            self.write(name, picture(name))
        self.run_likeness("add", self.path("photos"))
        self.assertEqual(self.catalogue.sorted_ids(), ["a.png", "cats/b.JPG", "cats/old/c.jpeg"])
        self.assertEqual(self.catalogue.items["cats/b.JPG"]["data"], picture("photos/cats/b.JPG"))
        self.assertIn("3 added, 0 replaced, 0 there already, 0 failed", self.err)

    def test_a_slash_at_the_folders_end_changes_no_id(self):
        self.write("photos/x/a.png", picture("a"))
        self.run_likeness("add", self.path("photos") + "/")
        self.assertEqual(self.catalogue.sorted_ids(), ["x/a.png"])

    def test_the_id_of_a_file_is_its_own_name_and_prefix_goes_before_it(self):
        self.run_likeness("add", self.write("photos/deep/a.png", picture("a")), "--prefix", "mine/")
        self.assertEqual(self.catalogue.sorted_ids(), ["mine/a.png"])

    def test_ids_with_spaces_percents_quotes_and_letters_of_all_kinds_arrive_as_they_are(self):
        names = ["50% off.png", "a+b&c=d?.png", 'say "hi".png', "back\\slash.png", "ünï/日本.png", "#1;2.png", "%41.png"]
        for name in names:
            self.write("photos/" + name, picture(name))
        self.run_likeness("add", self.path("photos"))
        self.assertEqual(sorted(self.catalogue.items), sorted(names))
        for name in names:
            self.assertEqual(self.catalogue.items[name]["data"], picture(name))

    def test_many_pictures_travel_in_few_requests_and_each_arrives_with_its_own_bytes(self):
        for i in range(300):
            self.write("photos/%03d.png" % i, picture("\r\n--%d" % i))
        self.run_likeness("add", self.path("photos"))
        self.assertEqual(len(self.catalogue.items), 300)
        for i in range(300):
            self.assertEqual(self.catalogue.items["%03d.png" % i]["data"], picture("\r\n--%d" % i))
        self.assertEqual(len(self.requests("POST")), 3)

    def test_a_request_holds_no_more_pictures_than_the_server_takes(self):
        self.catalogue.upload_images = 2
        for i in range(5):
            self.write("photos/%d.png" % i, picture(str(i)))
        self.run_likeness("add", self.path("photos"))
        self.assertEqual(len(self.catalogue.items), 5)
        self.assertEqual(len(self.requests("POST")), 3)

    def test_a_request_holds_bounded_bytes(self):
        self.catalogue.max_body_bytes = 8 << 20
        for i in range(6):
            self.write("photos/%d.png" % i, PNG + bytes([i]) * (7 << 20))
        self.run_likeness("add", self.path("photos"))
        self.assertEqual(len(self.catalogue.items), 6)
        sizes = [r[3] for r in self.catalogue.requests if r[0] == "POST"]
        self.assertEqual(len(sizes), 2)
        self.assertLess(max(sizes), 24 << 20)

    def test_what_is_there_already_is_skipped_also_across_pages(self):
        self.catalogue.page_limit = 7
        for i in range(30):
            self.write("photos/%02d.png" % i, picture("new %d" % i))
        for i in range(0, 60, 3):
            self.catalogue.put("%02d.png" % i, picture("old %d" % i), None)
        self.run_likeness("add", self.path("photos"))
        self.assertIn("20 added, 0 replaced, 10 there already, 0 failed", self.err)
        self.assertEqual(self.catalogue.items["03.png"]["data"], picture("old 3"))
        self.assertEqual(self.catalogue.items["04.png"]["data"], picture("new 4"))

    def test_a_few_pictures_for_a_large_catalogue_are_asked_for_one_by_one(self):
        for i in range(200):
            self.catalogue.put("x%d" % i, picture(str(i)), None)
        self.catalogue.put("a b.png", picture("old"), None)
        self.write("photos/a b.png", picture("new"))
        self.write("photos/c.png", picture("new"))
        self.run_likeness("add", self.path("photos"))
        self.assertIn("1 added, 0 replaced, 1 there already", self.err)
        self.assertNotIn("/items?limit=1000", self.requests("GET"))

    def test_replace_sends_all_and_keeps_metadata(self):
        self.catalogue.put("a.png", picture("old"), {"mine": 1})
        self.write("photos/a.png", picture("new"))
        self.run_likeness("add", "--replace", self.path("photos"))
        self.assertIn("0 added, 1 replaced", self.err)
        self.assertEqual(self.catalogue.items["a.png"]["data"], picture("new"))
        self.assertEqual(self.catalogue.items["a.png"]["metadata"], {"mine": 1})

    def test_a_second_run_sends_nothing(self):
        self.write("photos/a.png", picture("a"))
        self.run_likeness("add", self.path("photos"))
        self.run_likeness("add", self.path("photos"))
        self.assertEqual(len(self.requests("POST")), 1)

    def test_bad_files_are_named_and_the_good_ones_go_on(self):
        self.write("photos/1.png", picture("a"))
        self.write("photos/2.png", picture("BROKEN"))
        self.write("photos/3.png", b"text")
        self.write("photos/4.png", b"")
        self.write("photos/5.png", picture("b"))
        self.run_likeness("add", self.path("photos"), code=1)
        self.assertEqual(self.catalogue.sorted_ids(), ["1.png", "5.png"])
        self.assertRegex(self.err, r"photos/2\.png: the picture is damaged.* \[undecodable_image\]")
        self.assertRegex(self.err, r"photos/3\.png: .* \[unsupported_image_format\]")
        self.assertRegex(self.err, r"photos/4\.png: .* \[empty_body\]")
        self.assertIn("2 added, 0 replaced, 0 there already, 3 failed", self.err)

    def test_a_file_above_the_servers_limit_is_not_sent(self):
        self.catalogue.max_body_bytes = 1000
        self.write("photos/1.png", PNG + bytes(2000))
        self.write("photos/2.png", picture("b"))
        self.run_likeness("add", self.path("photos"), code=1)
        self.assertEqual(self.catalogue.sorted_ids(), ["2.png"])
        self.assertIn("larger than the server takes", self.err)

    def test_other_files_hidden_ones_and_link_loops_are_left_out(self):
        for name in ("photos/a.png", "photos/notes.txt", "photos/.hidden.png", "photos/.git/b.png", "elsewhere/c.png"):
            self.write(name, picture(name))
        os.symlink(self.path("elsewhere"), self.path("photos/link"))
        os.symlink(self.path("photos"), self.path("photos/loop"))
        self.run_likeness("add", self.path("photos"))
        self.assertEqual(self.catalogue.sorted_ids(), ["a.png", "link/c.png"])
        self.assertIn("1 files are no pictures by their names", self.err)

    def test_two_files_with_one_id_are_an_error_before_anything_is_sent(self):
        one, two = self.write("x/a.png", picture("1")), self.write("y/a.png", picture("2"))
        other = self.write("x/0.png", picture("3"))
        self.run_likeness("add", one, other, one, two, code=2)
        self.assertIn("would both be the item 'a.png'", self.err)
        self.assertEqual(self.catalogue.requests, [])

    def test_class_from_folder_is_stored_as_metadata(self):
        self.write("photos/cat's \"best\"/deep/a.png", picture("a"))
        self.write("photos/dog/b.png", picture("b"))
        self.write("photos/c.png", picture("c"))
        self.write("photos/dog/quo\"te.png", picture("d"))
        self.run_likeness("add", "--class-from-folder", self.path("photos"))
        metadata = {id_: item["metadata"] for id_, item in self.catalogue.items.items()}
        self.assertEqual(metadata, {"cat's \"best\"/deep/a.png": {"class": "cat's \"best\""}, "c.png": {},
                                    "dog/b.png": {"class": "dog"}, "dog/quo\"te.png": {"class": "dog"}})

    def test_metadata_given_is_stored_with_every_picture_beside_its_class(self):
        self.write("photos/dog/b.png", picture("b"))
        self.write("photos/c.png", picture("c"))
        self.write("photos/dog/quo\"te.png", picture("d"))
        self.run_likeness("add", "--metadata", ' { "album": "2024", "n": [1] } ', self.path("photos"))
        self.assertEqual([i["metadata"] for i in self.catalogue.items.values()], [{"album": "2024", "n": [1]}] * 3)
        self.run_likeness("add", "--replace", "--class-from-folder", "--metadata", '{"n": {}}', self.path("photos"))
        metadata = {id_: item["metadata"] for id_, item in self.catalogue.items.items()}
        both = {"class": "dog", "n": {}}
        self.assertEqual(metadata, {"c.png": {"n": {}}, "dog/b.png": both, "dog/quo\"te.png": both})
        self.run_likeness("add", "--replace", "--class-from-folder", "--metadata", " { }", self.path("photos"))
        self.assertEqual(self.catalogue.items["dog/b.png"]["metadata"], {"class": "dog"})

    def test_metadata_that_is_no_object_is_wrong_usage(self):
        self.write("photos/c.png", picture("c"))
        for bad in ("", "x", "[1]", '{"a":1', '"{}"', '{"a":1} x', '{"a":1,"a":2}'):
            self.run_likeness("add", "--metadata", bad, self.path("photos"), code=2)
            self.assertIn("--metadata takes a JSON object", self.err)
        self.assertEqual(self.catalogue.requests, [])

    def test_a_name_that_is_no_utf8_is_reported_and_the_rest_goes_on(self):
        self.write("photos/a.png", picture("a"))
        with open(os.fsencode(self.path("photos")) + b"/\xff.png", "wb") as file:
            file.write(picture("b"))
        self.run_likeness("add", self.path("photos"), code=1)
        self.assertEqual(self.catalogue.sorted_ids(), ["a.png"])
        self.assertIn("not valid UTF-8", self.err)

    def test_pictures_that_the_busy_server_left_out_are_sent_again(self):
        for i in range(4):
            self.write("photos/%d.png" % i, picture(str(i)))
        self.catalogue.busy_ids = {"1.png", "3.png"}
        self.run_likeness("add", self.path("photos"))
        self.assertEqual(len(self.catalogue.items), 4)
        self.assertIn("4 added", self.err)

    def test_when_many_at_once_are_refused_they_are_sent_one_by_one(self):
        self.catalogue.refuse_many = True
        for i in range(3):
            self.write("photos/%d.png" % i, picture(str(i) + "BROKEN" * (i == 1)))
        self.run_likeness("add", self.path("photos"), code=1)
        self.assertEqual(self.catalogue.sorted_ids(), ["0.png", "2.png"])

    def test_what_a_broken_stream_left_out_is_sent_again(self):
        self.catalogue.break_upload_after = 2
        for i in range(4):
            self.write("photos/%d.png" % i, picture(str(i)))
        self.run_likeness("add", self.path("photos"))
        self.assertEqual(len(self.catalogue.items), 4)
        self.assertEqual(len(self.requests("PUT")), 2)

    def test_a_full_disk_ends_the_work_and_says_how_much_was_not_tried(self):
        self.catalogue.upload_images = 1
        self.catalogue.put = lambda *_: (_ for _ in ()).throw(full_disk())
        for i in range(3):
            self.write("photos/%d.png" % i, picture(str(i)))
        self.run_likeness("add", self.path("photos"), code=1)
        self.assertIn("1 failed, 2 not tried", self.err)

    def test_a_path_that_is_not_there_is_wrong_usage(self):
        self.run_likeness("add", self.path("nowhere"), code=2)
        self.assertIn("No such file", self.err)

    def test_an_empty_folder_is_fine(self):
        os.mkdir(self.path("empty"))
        self.run_likeness("add", self.path("empty"))
        self.assertIn("0 added", self.err)


def full_disk():
    from fake_server import Refusal
    return Refusal(507, "disk_full", "the disk is full")


class Neighbors(Case):
    def setUp(self):
        super().setUp()
        for name in ("a", "b", "c with space", "d/e"):
            self.catalogue.put(name, picture(name), {"n": name})

    def test_a_file_gives_id_and_score_a_line_best_first(self):
        lines = self.run_likeness("neighbors", self.write("q.png", picture("b")), "-k", "3").splitlines()
        self.assertEqual(len(lines), 3)
        self.assertEqual(lines[0], "b 1.000000")
        scores = [float(line.rsplit(" ", 1)[1]) for line in lines]
        self.assertEqual(scores, sorted(scores, reverse=True))

    def test_an_id_gives_the_others(self):
        lines = self.run_likeness("neighbors", "--id", "d/e").splitlines()
        self.assertEqual(sorted(line.rsplit(" ", 1)[0] for line in lines), ["a", "b", "c with space"])

    def test_a_filter_goes_with_a_file_and_with_an_id(self):
        only = '{"must": [{"key": "n", "match": "c with space"}]}'
        lines = self.run_likeness("neighbors", self.write("q.png", picture("b")), "--filter", only).splitlines()
        self.assertEqual([line.rsplit(" ", 1)[0] for line in lines], ["c with space"])
        self.assertEqual(self.run_likeness("neighbors", "--id", "a", "--filter=" + only).rsplit(" ", 1)[0], "c with space")
        self.run_likeness("neighbors", "--id", "a", "--filter", "{", code=1)
        self.assertIn("[invalid_argument, HTTP 400]", self.err)

    def test_json_is_the_servers_whole_answer(self):
        answer = json.loads(self.run_likeness("neighbors", "--id", "c with space", "--k=1", "--json"))
        self.assertEqual(answer["generation"], 3)
        self.assertEqual(self.out.count("\n"), 1)
        self.assertEqual(len(answer["neighbors"]), 1)
        self.assertIn("n", answer["neighbors"][0]["metadata"])

    def test_a_picture_may_come_from_standard_input(self):
        self.assertTrue(self.run_likeness("neighbors", "-", "-k1", stdin=picture("a")).startswith("a 1.000000"))

    def test_an_unknown_id_shows_the_servers_sentence_code_and_status(self):
        self.run_likeness("neighbors", "--id", "nobody", code=1)
        self.assertIn("nobody: there is no item 'nobody' [item_not_found, HTTP 404]", self.err)

    def test_a_bad_picture_fails(self):
        self.run_likeness("neighbors", self.write("q.png", picture("BROKEN")), code=1)
        self.assertIn("[undecodable_image, HTTP 422]", self.err)

    def test_both_or_neither_of_file_and_id_are_wrong_usage(self):
        self.run_likeness("neighbors", code=2)
        self.run_likeness("neighbors", "x.png", "--id", "a", code=2)
        self.run_likeness("neighbors", "x.png", "-k", "0", code=2)


class Embed(Case):
    def test_a_json_object_a_line_with_every_bit_of_each_vector(self):
        files = [self.write("%d.png" % i, picture(str(i))) for i in range(70)]
        lines = [json.loads(line) for line in self.run_likeness("embed", *files).splitlines()]
        self.assertEqual([line["file"] for line in lines], files)
        for i, line in enumerate(lines):
            as_float32 = struct.unpack("<%df" % DIM, struct.pack("<%df" % DIM, *line["embedding"]))
            self.assertEqual(list(as_float32), embed(picture(str(i))))
            self.assertEqual((line["model"], line["generation"]), ("fake", 3))
        self.assertLess(len(self.requests("POST")), 5)

    def test_a_bad_picture_among_good_ones_is_reported_and_the_others_go_on(self):
        files = [self.write("%d.png" % i, data) for i, data in
                 enumerate((picture("a"), b"text", picture("b")))] + [self.path("missing.png")]
        lines = self.run_likeness("embed", *files, code=1).splitlines()
        self.assertEqual([json.loads(line)["file"] for line in lines], [files[0], files[2]])
        self.assertIn("1.png: the bytes are neither PNG nor JPEG", self.err)
        self.assertIn("missing.png: No such file", self.err)

    def test_a_request_stays_below_the_servers_limit_of_bytes(self):
        self.catalogue.max_body_bytes = 10000
        files = [self.write("%d.png" % i, picture("%d" % i) + bytes(size)) for i, size in
                 enumerate((4000, 4000, 4000, 9700, 20000, 100))]
        lines = self.run_likeness("embed", *files, code=1).splitlines()
        self.assertEqual([json.loads(line)["file"] for line in lines], files[:4] + files[5:])
        self.assertIn("4.png: the file is larger than the server takes", self.err)
        self.assertEqual(len(self.requests("POST")), 4)

    def test_npy_holds_a_row_a_file(self):
        files = [self.write("%d.png" % i, picture(str(i))) for i in range(40)]
        self.run_likeness("embed", "--npy", self.path("out.npy"), *files)
        with open(self.path("out.npy"), "rb") as file:
            data = file.read()
        self.assertEqual(data[:8], b"\x93NUMPY\x01\x00")
        size = struct.unpack("<H", data[8:10])[0]
        self.assertEqual((10 + size) % 64, 0)
        header = eval(data[10:10 + size].decode("ascii"))
        self.assertEqual(header, {"descr": "<f4", "fortran_order": False, "shape": (40, DIM)})
        values = struct.unpack("<%df" % (40 * DIM), data[10 + size:])
        for i in range(40):
            self.assertEqual(list(values[i * DIM:(i + 1) * DIM]), embed(picture(str(i))))

    def test_npy_with_a_bad_picture_leaves_no_file(self):
        good, bad = self.write("a.png", picture("a")), self.write("b.png", b"text")
        self.run_likeness("embed", "--npy", self.path("out.npy"), good, bad, code=1)
        self.assertEqual([n for n in os.listdir(self.folder) if "npy" in n], [])

    def test_a_model_that_changes_in_the_middle_is_noticed(self):
        files = [self.write("%d.png" % i, picture(str(i))) for i in range(40)]
        catalogue = self.catalogue

        class Changing(list):
            def append(self, request):
                list.append(self, request)
                catalogue.generation += request[0] == "POST"
        catalogue.requests = Changing()
        self.run_likeness("embed", *files, code=1)
        self.assertIn("changed from generation 4 to 5", self.err)


class CatalogueCommands(Case):
    def setUp(self):
        super().setUp()
        for i in range(5):
            self.catalogue.put("f/%d.png" % i, picture(str(i)), {"n": i})

    def test_ls_prints_every_id_in_order_across_pages(self):
        self.catalogue.page_limit = 2
        self.assertEqual(self.run_likeness("ls").split(), ["f/%d.png" % i for i in range(5)])

    def test_ls_limit_and_after_walk_through(self):
        self.assertEqual(self.run_likeness("ls", "--limit", "2").split(), ["f/0.png", "f/1.png"])
        self.assertIn("--after 'f/1.png'", self.err)
        self.assertEqual(self.run_likeness("ls", "-n", "3", "--after", "f/1.png").split(),
                         ["f/2.png", "f/3.png", "f/4.png"])
        self.assertEqual(self.err, "")

    def test_ls_filter_lists_what_fulfils_it_also_with_limit_and_after(self):
        only = '{"must": [{"key": "n", "match": 3}]}'
        self.assertEqual(self.run_likeness("ls", "--filter", only), "f/3.png\n")
        self.assertEqual(self.run_likeness("ls", "--filter", only, "-n", "1", "--after", "f/0.png"), "f/3.png\n")
        self.assertEqual(self.run_likeness("ls", "--filter", only, "--after", "f/3.png"), "")

    def test_ls_json_is_an_object_a_line(self):
        items = [json.loads(line) for line in self.run_likeness("ls", "--json").splitlines()]
        self.assertEqual([item["metadata"]["n"] for item in items], list(range(5)))
        self.assertEqual(items[0]["sha256"], hashlib.sha256(picture("0")).hexdigest())

    def test_ls_long_has_size_and_metadata(self):
        self.assertEqual(self.run_likeness("ls", "-l", "-n1"), 'f/0.png\t32x32\t9\t{"n":0}\n')

    def test_get_prints_the_item(self):
        self.assertEqual(json.loads(self.run_likeness("get", "f/3.png"))["metadata"], {"n": 3})
        self.run_likeness("get", "f/9.png", code=1)
        self.assertEqual(self.out, "")

    def test_image_writes_the_stored_bytes(self):
        self.run_likeness("image", "f/3.png", "-o", self.path("x.png"))
        with open(self.path("x.png"), "rb") as file:
            self.assertEqual(file.read(), picture("3"))
        self.run_likeness("image", "f/3.png", "-o", "-")
        self.assertEqual(self.raw, picture("3"))

    def test_image_of_nobody_leaves_no_file_and_an_old_file_as_it_was(self):
        path = self.write("x.png", b"old")
        self.run_likeness("image", "nobody", "-o", path, code=1)
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b"old")
        self.assertEqual(os.listdir(self.folder), ["x.png"])

    def test_rm_deletes_all_it_can_and_tells_of_the_rest(self):
        self.run_likeness("rm", "f/0.png", "nobody", "f/4.png", code=1)
        self.assertEqual(self.catalogue.sorted_ids(), ["f/1.png", "f/2.png", "f/3.png"])
        self.assertIn("nobody: there is no item", self.err)
        self.run_likeness("rm", "f/1.png")

    def test_export_writes_a_tar_of_everything(self):
        self.run_likeness("export", self.path("all.tar"))
        with tarfile.open(self.path("all.tar")) as tar:
            self.assertEqual(len(tar.getnames()), 10)
            self.assertEqual(tar.extractfile("images/f%2F2.png").read(), picture("2"))

    def test_export_that_was_cut_off_leaves_no_file(self):
        self.catalogue.cut_export = True
        self.run_likeness("export", self.path("all.tar"), code=1)
        self.assertIn("incomplete", self.err)
        self.assertEqual(os.listdir(self.folder), [])

    def test_export_that_is_interrupted_leaves_no_file(self):
        self.catalogue.slow = 5
        for number in (signal.SIGINT, signal.SIGTERM):
            running = subprocess.Popen([LIKENESS, "export", self.path("all.tar"), "--server", self.server.url])
            until = time.monotonic() + 20
            while not os.listdir(self.folder) and time.monotonic() < until:
                time.sleep(0.01)
            self.assertEqual(len(os.listdir(self.folder)), 1)
            running.send_signal(number)
            self.assertEqual(running.wait(20), -number)
            self.assertEqual(os.listdir(self.folder), [])

    def test_export_into_a_folder_that_is_not_there_fails_without_asking(self):
        self.run_likeness("export", self.path("no/where.tar"), code=1)
        self.assertEqual(self.catalogue.requests, [])

    def test_model_says_what_serves(self):
        self.assertRegex(self.run_likeness("model"), r"model +fake\ngeneration +3\ndimensions +8\npictures +5\n")
        self.assertEqual(json.loads(self.run_likeness("model", "--json"))["architecture"], "resnet18")


class Trouble(Case):
    def test_retry_after_is_waited_for(self):
        self.catalogue.busy = [(429, 1), (503, 1)]
        began = time.monotonic()
        self.run_likeness("model")
        self.assertGreaterEqual(time.monotonic() - began, 2)
        self.assertEqual(self.err.count("trying again in 1 s"), 2)
        self.assertEqual(len(self.catalogue.requests), 3)

    def test_a_date_as_retry_after_is_understood(self):
        in_two_seconds = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2.9))
        self.catalogue.busy = [(503, in_two_seconds)]
        began = time.monotonic()
        self.run_likeness("model")
        self.assertGreaterEqual(time.monotonic() - began, 0.9)
        self.assertIn("trying again in", self.err)

    def test_without_retry_after_it_waits_half_a_second(self):
        self.catalogue.busy = [(429, None)]
        self.run_likeness("model")
        self.assertIn("trying again in 0.5 s", self.err)

    def test_a_whole_batch_is_sent_again_after_429(self):
        folder = os.path.dirname(self.write("photos/a.png", picture("a")))
        self.catalogue.busy = [(429, 1, "POST")]
        self.run_likeness("add", folder)
        self.assertEqual(self.catalogue.items["a.png"]["data"], picture("a"))
        self.assertEqual(len(self.requests("POST")), 2)

    def test_it_gives_up_after_so_many_tries(self):
        self.catalogue.busy = [(429, None)] * 9
        self.run_likeness("model", "--retries", "1", code=1)
        self.assertEqual(len(self.catalogue.requests), 2)
        self.assertIn("too much work waits [overloaded, HTTP 429]", self.err)
        self.run_likeness("model", "--retries", "0", code=1)

    def test_a_retry_after_of_an_hour_is_not_waited_for(self):
        self.catalogue.busy = [(503, 3600)]
        self.run_likeness("model", code=1)

    def test_no_server_is_told_with_its_url_and_what_to_do(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            url = "http://127.0.0.1:%d" % s.getsockname()[1]
        for command in (["model"], ["ls"], ["rm", "a", "b"], ["embed", self.write("a.png", picture("a"))],
                        ["add", self.folder], ["export", self.path("x.tar")], ["neighbors", "--id", "x"]):
            self.run_likeness(*command, "--server", url, code=3, server=False)
            self.assertIn("no server answers at " + url, self.err)
            self.assertIn("Start one with", self.err)
            self.assertEqual(self.err.count("no server answers"), 1)

    def test_the_server_may_come_from_the_environment_and_the_option_wins(self):
        self.run_likeness("model", env={"LIKENESS_SERVER": self.server.url + "/"}, server=False)
        self.run_likeness("model", env={"LIKENESS_SERVER": "http://127.0.0.1:1"})

    def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(self):
        self.run_likeness("model", env={"http_proxy": "http://127.0.0.1:1"})

    def test_an_address_that_is_none_is_wrong_usage(self):
        for url in ("ftp://x", "http://", "nonsense://", "http://h/?q=1", "http:/127.0.0.1:1", "127.0.0.1:1"):
            self.run_likeness("model", "--server", url, code=2, server=False)
            self.assertIn("no server's URL", self.err)

    def test_a_slow_answer_is_a_timeout(self):
        self.catalogue.slow = 2
        self.run_likeness("model", "--timeout", "0.3", code=1)
        self.assertIn("did not answer within 0.3 s", self.err)

    def test_an_answer_of_another_kind_of_server_is_an_error(self):
        for body, status in (("<html>", 200), ("<html>", 502), ("{}", 200), ('{"model":1}', 200), ("[" * 5000, 200)):
            with Canned(status, body) as url:
                self.run_likeness("model", "--server", url, code=1, server=False)
                self.assertTrue("none of a Likeness server" in self.err or "HTTP status 502" in self.err, self.err)

    def test_vectors_that_do_not_fit_the_question_are_refused(self):
        row = '{"index":%d,"embedding":[1,0]}'
        head = '{"model":"m","generation":1,"dim":2,"limits":{},"embeddings":[%s]}'
        file = self.write("a.png", picture("a"))
        for rows in ("", row % 7, row % -1, row % 0 + "," + row % 0, '{"index":0,"embedding":[1]}',
                     '{"index":0,"embedding":["x","y"]}', '{"index":0}', '{"embedding":[1,0]}'):
            with Canned(200, head % rows) as url:
                self.run_likeness("embed", file, "--server", url, code=1, server=False)
                self.assertIn("none of a Likeness server", self.err)
                self.assertEqual(self.out, "")


class Canned:
    """A server that gives the same answer to everything."""

    def __init__(self, status, body):
        from http.server import BaseHTTPRequestHandler, HTTPServer
        import threading

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())
            do_POST = do_GET

            def log_message(self, *_):
                pass
        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self):
        self.thread.start()
        return "http://127.0.0.1:%d" % self.http.server_address[1]

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()


class Usage(Case):
    def test_every_command_has_help(self):
        overview = self.run_likeness("--help", server=False)
        for command in ("add", "neighbors", "embed", "ls", "get", "image", "rm", "export", "model"):
            self.assertIn("\n  %s " % command, overview)
            text = self.run_likeness(command, "--help", server=False)
            self.assertTrue(text.startswith("Usage: likeness %s" % command))
            self.assertIn("--server URL", text)
        self.assertEqual(self.catalogue.requests, [])

    def test_version(self):
        self.assertRegex(self.run_likeness("--version", server=False), r"^likeness \d+\.\d+\.\d+\n$")

    def test_mistakes_are_named_with_the_nearest_right_word(self):
        for arguments, hint in ((["lss"], "did you mean ls?"), (["ls", "--limt", "3"], "did you mean --limit?"),
                                (["frobnicate"], "no command 'frobnicate'"), ([], "which command?"),
                                (["ls", "--limit"], "needs a value"), (["ls", "--limit", "0"], "not '0'"),
                                (["ls", "--limit", "3x"], "not '3x'"), (["ls", "--json=1"], "takes no value"),
                                (["ls", "extra"], "takes no arguments"), (["rm"], "one or more ids"),
                                (["image", "x"], "-o FILE"), (["--timeout", "0", "ls"], "--timeout takes"),
                                (["ls", "-x"], "no option -x")):
            self.run_likeness(*arguments, code=2, server=False)
            self.assertIn(hint, self.err)

    def test_two_dashes_end_the_options(self):
        self.catalogue.put("--help", picture("a"), None)
        self.run_likeness("rm", "--server", self.server.url, "--", "--help", server=False)
        self.assertEqual(self.catalogue.items, {})

    def test_a_closed_pipe_is_no_crash(self):
        for i in range(3000):
            self.catalogue.put("a long id to fill the pipe with %d" % i, picture("x"), None)
        process = subprocess.Popen([LIKENESS, "ls", "--server", self.server.url], stdout=subprocess.PIPE)
        process.stdout.read(1)
        process.stdout.close()
        self.assertEqual(process.wait(30), 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
