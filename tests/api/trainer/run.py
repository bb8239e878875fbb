"""Runs the real trainer on a small network, for the tests of this folder."""
import os
import pathlib
import subprocess

BIN = pathlib.Path(os.environ["LK_BIN_DIR"])
# Seconds long: little to compute beside the tiny model of make_model (resnet18, width 8, 32 pixels).
SMALL = ["--device", "cpu", "--image-size", "16", "--projector-hidden", "32", "--predictor-hidden", "32",
         "--output-dim", "16", "--knn-k", "5", "--export-dtype", "f32"]


def trainer(folder, *arguments, expect=0, timeout=150):
    """likeness-trainer with these words, in this folder; its output, both streams."""
    environment = dict(os.environ, OMP_WAIT_POLICY="passive")
    run = subprocess.run([str(BIN / "likeness-trainer"), *map(str, arguments)], cwd=folder, timeout=timeout,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    text = run.stdout.decode()
    assert run.returncode == expect, f"exit status {run.returncode}, expected {expect}:\n{text}"
    return text


def retrain(folder, url, *arguments, expect=0):
    return trainer(folder, "retrain", "--server", url, *SMALL, *arguments, expect=expect)
