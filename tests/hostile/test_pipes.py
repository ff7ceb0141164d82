"""A pipe in the place of a file is never waited for: nobody may ever write to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mobilesam.formats.file_names import open_at_once
from mobilesam.storage.embeddings import KeptEmbeddings

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")

PIXELS = np.zeros((1, 3, 4, 4), np.float32)

# In one process of its own, which is killed if it waits. Every call names a pipe without a writer.
CALLS = """
import sys
from pathlib import Path
from mobilesam import MobileSamError
from mobilesam.evaluate.results import read_results
from mobilesam.formats.datasets.load import READABLE, read_dataset, recognise
from mobilesam.formats.prompt_file import read_prompts

file, folder = Path(sys.argv[1]), Path(sys.argv[2])
calls = [lambda: read_prompts(file), lambda: read_results(file), lambda: recognise(file), lambda: recognise(folder)]
calls += [lambda name=name, path=path: read_dataset(path, format=name) for name in READABLE for path in (file, folder)]
for call in calls:
    try:
        call()
    except MobileSamError as error:
        print(error.code)
    else:
        print("read")
"""


def test_a_pipe_that_nobody_writes_to_is_not_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "images").mkdir(parents=True)
    for name in (
        "instances.json",
        "annotations.xml",
        "objects.jsonl",
        "data.yaml",
        "a.json",
        "a.xml",
        "a.txt",
    ):
        os.mkfifo(folder / name)
    os.mkfifo(tmp_path / "file.json")
    done = subprocess.run(
        [sys.executable, "-c", CALLS, str(tmp_path / "file.json"), str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 12
    assert "X" not in done.stdout.split()


def test_a_pipe_with_a_writer_is_read(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"some ")
    with open_at_once(f"/dev/fd/{reader}") as file:
        os.write(writer, b"text")
        os.close(writer)
        os.close(reader)
        assert file.read() == b"some text"


def test_a_pipe_among_kept_embeddings_is_replaced(tmp_path: Path) -> None:
    kept = KeptEmbeddings(tmp_path, "one")
    path = kept.path(PIXELS)
    path.parent.mkdir()
    os.mkfifo(path)
    assert kept.read(path) is None
    kept.write(path, {"a": PIXELS})
    found = kept.read(path)
    assert found is not None
    assert found["a"].shape == PIXELS.shape
