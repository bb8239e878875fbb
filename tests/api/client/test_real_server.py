"""Do the likeness command and the real server understand each other? A model with random weights, the sample pictures."""

import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import unittest

BIN = os.environ.get("LK_BIN_DIR", "")
LIKENESS, SERVER = os.path.join(BIN, "likeness"), os.path.join(BIN, "likeness-server")
MAKE_MODEL = os.path.join(BIN, "..", "tests", "bin", "make_model")
# OpenMP's own hand-overs look like races to ThreadSanitizer: the engine runs alone under it.
THREADS = ["--engine-threads", "1", "--pool-threads", "2"] if os.environ.get("OMP_NUM_THREADS") == "1" else []
SAMPLE = os.path.join(os.environ.get("LK_SOURCE_DIR", ""), "tests", "data", "cifar10-sample")
HARD_IDS = ['say "hi".jpg', "back\\slash.jpg", "50% a+b&c=d?#;.jpg", "%41.jpg", "a%22b%2522%0A.jpg", "ün/日本.jpg", " leading and trailing .jpg",
            "a'b`c$d.jpg", "a..jpg", "x" * 251 + ".jpg", "=.jpg", "{}[]|^~.jpg", "🙂.jpg"]


class RealServer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        subprocess.run([MAKE_MODEL, os.path.join(cls.folder, "tiny.safetensors")], check=True)
        cls.start()
        cls.addClassCleanup(cls.stop)
        cls.likeness("add", os.path.join(SAMPLE, "cat"), "--prefix", "base/")

    @classmethod
    def start(cls):
        log = os.path.join(cls.folder, "log")
        with open(log, "wb") as file:
            cls.process = subprocess.Popen(
                [SERVER, "--model", os.path.join(cls.folder, "tiny.safetensors"), "--catalogue",
                 os.path.join(cls.folder, "catalogue.db"), "--listen", "127.0.0.1:0", *THREADS], stderr=file)
        while True:
            with open(log, encoding="utf-8") as file:
                text = file.read()
            found = re.search(r"listening on (http://\S+)", text)
            if found:
                cls.url = found.group(1)
                return
            if cls.process.poll() is not None:
                raise RuntimeError(text)

    @classmethod
    def stop(cls):
        cls.process.terminate()
        code = cls.process.wait(60)
        if code != 0:
            with open(os.path.join(cls.folder, "log"), encoding="utf-8") as file:
                raise RuntimeError("the server ended with %d\n%s" % (code, file.read()))

    @classmethod
    def likeness(cls, *arguments, code=0):
        done = subprocess.run([LIKENESS, "--server", cls.url, *arguments], capture_output=True, timeout=120)
        cls.err = done.stderr.decode("utf-8", "replace")
        if done.returncode != code:
            raise AssertionError("%s ended with %d\n%s" % (arguments, done.returncode, cls.err))
        return done.stdout

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def test_a_folder_goes_in_once_with_its_classes(self):
        folder = self.path("sample")
        for name in ("dog", "frog"):
            shutil.copytree(os.path.join(SAMPLE, name), os.path.join(folder, name))
        self.likeness("add", folder, "--class-from-folder")
        self.assertIn("200 added, 0 replaced, 0 there already, 0 failed", self.err)
        self.likeness("add", folder)
        self.assertIn("0 added, 0 replaced, 200 there already", self.err)
        self.likeness("add", folder, "--replace")
        self.assertIn("0 added, 200 replaced", self.err)
        item = json.loads(self.likeness("get", "frog/0001.jpg"))
        self.assertEqual(item["metadata"], {"class": "frog"})
        self.assertEqual(item["media_type"], "image/jpeg")

    def test_a_picture_finds_itself_and_an_item_leaves_itself_out(self):
        file = os.path.join(SAMPLE, "cat", "0000.jpg")
        lines = self.likeness("neighbors", file, "-k", "5").decode().splitlines()
        self.assertEqual(len(lines), 5)
        self.assertEqual(lines[0], "base/0000.jpg 1.000000")
        others = self.likeness("neighbors", "--id", "base/0000.jpg", "-k", "4").decode().splitlines()
        self.assertEqual(others, lines[1:])

    def test_a_filter_looks_at_the_metadata_that_add_gave(self):
        self.likeness("add", os.path.join(SAMPLE, "ship"), "--prefix", "fleet/", "--metadata", '{"fleet": {"flag": "é&+%"}}')
        flag = '{"must": [{"key": "fleet.flag", "match": "é&+%"}]}'
        file = os.path.join(SAMPLE, "cat", "0000.jpg")
        lines = self.likeness("neighbors", file, "-k", "1000", "--filter", flag).decode().splitlines()
        listed = self.likeness("ls", "--filter", flag).decode().splitlines()
        self.assertEqual(len(listed), 100)
        self.assertEqual(sorted(line.rsplit(" ", 1)[0] for line in lines), listed)
        self.assertTrue(all(id_.startswith("fleet/") for id_ in listed))
        self.likeness("ls", "--filter", '{"must": [{"key": "a"}]}', code=1)
        self.assertIn("filter.must[0]", self.err)
        self.likeness("rm", "--", *listed)

    def test_ids_of_all_kinds_come_back_with_their_own_pictures(self):
        folder = self.path("hard")
        for i, id_ in enumerate(HARD_IDS):
            os.makedirs(os.path.dirname(os.path.join(folder, id_)), exist_ok=True)
            shutil.copy(os.path.join(SAMPLE, "horse", "%04d.jpg" % i), os.path.join(folder, id_))
        self.likeness("add", folder)
        self.assertIn("%d added" % len(HARD_IDS), self.err)
        listed = self.likeness("ls").decode().splitlines()
        for i, id_ in enumerate(HARD_IDS):
            self.assertIn(id_, listed)
            with open(os.path.join(SAMPLE, "horse", "%04d.jpg" % i), "rb") as file:
                self.assertEqual(self.likeness("image", "-o", "-", "--", id_), file.read())
            self.assertEqual(json.loads(self.likeness("get", "--", id_))["id"], id_)
            self.likeness("neighbors", "-k", "1", "--id", id_)
        self.likeness("rm", "--", *HARD_IDS)

    def test_bad_pictures_are_told_with_the_servers_reason(self):
        folder = self.path("bad")
        os.mkdir(folder)
        with open(os.path.join(SAMPLE, "bird", "0000.jpg"), "rb") as file:
            good = file.read()
        for name, data in (("good.jpg", good), ("cut.jpg", good[:500]), ("text.png", b"text"), ("empty.png", b"")):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(data)
        self.likeness("add", folder, "--prefix", "bad/", code=1)
        self.assertIn("1 added, 0 replaced, 0 there already, 3 failed", self.err)
        self.assertRegex(self.err, r"cut\.jpg: .*\[undecodable_image\]")
        self.assertRegex(self.err, r"text\.png: .*\[unsupported_image_format\]")
        self.likeness("neighbors", os.path.join(folder, "cut.jpg"), code=1)
        self.assertIn("[undecodable_image, HTTP 422]", self.err)
        lines = self.likeness("embed", os.path.join(folder, "cut.jpg"), os.path.join(folder, "good.jpg"), code=1)
        self.assertEqual(len(lines.splitlines()), 1)

    def test_vectors_have_unit_length_and_are_the_same_in_any_batch(self):
        files = [os.path.join(SAMPLE, "deer", "%04d.jpg" % i) for i in range(40)]
        many = [json.loads(line) for line in self.likeness("embed", *files).splitlines()]
        one = json.loads(self.likeness("embed", files[7]))
        for line in many:
            self.assertAlmostEqual(sum(v * v for v in line["embedding"]), 1, places=5)
        cosine = sum(a * b for a, b in zip(many[7]["embedding"], one["embedding"]))
        self.assertGreater(cosine, 0.99999)

    def test_a_listing_in_pages_is_the_whole_listing(self):
        whole = self.likeness("ls", "--after", "base").decode().splitlines()
        whole = [id_ for id_ in whole if id_.startswith("base/")]
        paged, after = [], "base"
        while len(paged) < len(whole):
            page = self.likeness("ls", "-n", "30", "--after", after).decode().splitlines()
            after = page[-1]
            paged += [id_ for id_ in page if id_.startswith("base/")]
        self.assertEqual(paged, whole)
        self.assertEqual(len(whole), 100)

    def test_an_export_holds_every_item_with_its_picture(self):
        self.likeness("export", self.path("all.tar"))
        with tarfile.open(self.path("all.tar")) as tar:
            self.assertIn("items/base%2F0003.jpg.json", tar.getnames())
            with open(os.path.join(SAMPLE, "cat", "0003.jpg"), "rb") as file:
                self.assertEqual(tar.extractfile("images/base%2F0003.jpg").read(), file.read())

    def test_what_the_server_refuses_is_shown_in_its_words(self):
        self.likeness("get", "nobody", code=1)
        self.assertIn("[item_not_found, HTTP 404]", self.err)
        self.likeness("neighbors", "--id", "base/0000.jpg", "-k", "1000000", code=1)
        self.assertIn("[invalid_argument, HTTP 400]", self.err)

    def test_after_a_restart_everything_is_still_there(self):
        before = self.likeness("neighbors", "--id", "base/0009.jpg")
        cls = type(self)
        cls.stop()
        cls.start()
        self.assertEqual(self.likeness("neighbors", "--id", "base/0009.jpg"), before)


if __name__ == "__main__":
    unittest.main(verbosity=2)
