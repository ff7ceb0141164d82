"""Sets that are made of photos: the same files after any number of kills, and nothing lost to bad photos or full disks."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mobilesam.annotate.set_run import ERRORS, LOCK, SetRun, Step
from mobilesam.annotate.sources import find_sources
from mobilesam.core.errors import ConfigError, LimitError, OutputError, PromptError
from mobilesam.formats.datasets.load import read_dataset, write_dataset
from mobilesam.formats.datasets.model import LabelledObject, LabelledPhoto, make_dataset
from mobilesam.formats.datasets.record import NAME
from mobilesam.storage.lock import held
from mobilesam.work.local import WINDOW, LocalEngine
from tests.bright import FORMATS, WORKERS, bright_run
from tests.photos import cat, jpeg

ROOT = Path(__file__).parents[2]


def write_photos(folder: Path, count: int) -> Path:
    for i in range(count):
        path = folder / ("below" if i % 3 == 0 else ".") / f"{i:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.full((40, 60, 3), 30 + i % 20, np.uint8)
        image[5 + i % 9 : 30, 10 : 40 + i % 7] = 200
        path.write_bytes(jpeg(image))
    (folder / "broken.jpg").write_bytes(jpeg(cat())[:300])
    return folder


def go(run: SetRun, photos: Path) -> list[Step]:
    return list(run.over(find_sources([photos], beside=run.out).sources))


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def final_files(folder: Path) -> dict[str, bytes]:
    """Everything under the name that it keeps; the record grows, and what is being written is hidden."""
    hidden = (NAME, ERRORS)
    return {
        name: data
        for name, data in tree(folder).items()
        if name not in hidden and not Path(name).name.startswith(".")
    }


def test_a_set_has_all_formats_and_one_line_for_each_photo(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "shots", 6)
    before = tree(photos)
    steps = go(bright_run(tmp_path / "set"), photos)
    assert tree(photos) == before
    assert steps[-1].done == steps[-1].total == 7
    dataset = steps[-1].dataset
    assert len(dataset.photos) == 6
    lines = (tmp_path / "set" / NAME).read_text().splitlines()
    assert len(lines) == 1 + 6 + 1
    (error,) = [json.loads(line) for line in (tmp_path / "set" / ERRORS).read_text().splitlines()]
    assert error["path"] == str(photos / "broken.jpg")
    assert error["code"] == "I"
    assert "truncated" in error["reason"]
    found = read_dataset(tmp_path / "set")
    assert [photo.file_name for photo in found.photos] == [photo.file_name for photo in dataset.photos]
    for photo in found.photos:
        assert found.path(photo).read_bytes() == (photos / photo.file_name).read_bytes()
    for name in FORMATS[:-1]:
        read = read_dataset(tmp_path / "set", format=name)
        assert sum(len(photo.objects) for photo in read.photos) == 6, name
    assert not (tmp_path / "set" / LOCK).exists()


def killed_until_done(
    command: list[str], out: Path, wanted: dict[str, bytes], kills: int, longest: float
) -> int:
    """Start a run again and again, and kill it at a random moment; then let it end.

    A run that ends before it is killed is compared, and the next begins a new set. Return how often that was.
    """
    rng = random.Random(kills)
    ended = 0
    for _ in range(kills):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0.0, longest))
        process.send_signal(signal.SIGKILL)
        errors = process.communicate()[1]
        assert process.returncode in (-signal.SIGKILL, 0, 5), errors.decode()[-2000:]
        if process.returncode != -signal.SIGKILL:
            ended += 1
            assert tree(out) == wanted
            shutil.rmtree(out)
        elif out.is_dir():
            there = final_files(out)
            assert {name: data for name, data in there.items() if wanted.get(name) != data} == {}
    done = subprocess.run(command, cwd=ROOT, capture_output=True)
    assert done.returncode in (0, 5), done.stderr.decode()[-2000:]
    assert tree(out) == wanted
    return ended


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_after_ten_kills_the_files_are_the_same(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "shots", 30)
    go(bright_run(tmp_path / "whole"), photos)
    wanted = tree(tmp_path / "whole")
    log = tmp_path / "log"
    command = [sys.executable, "-m", "tests.bright", str(photos), str(tmp_path / "set"), str(log)]
    ended = killed_until_done(command, tmp_path / "set", wanted, 10, 1.0)
    assert len(log.read_text().splitlines()) <= 31 * (1 + ended) + 10 * (WORKERS * WINDOW + 1)


@pytest.mark.long
def test_after_two_hundred_kills_of_the_command_the_files_are_the_same(tmp_path: Path) -> None:
    """Prints the row of docs/explanation/long-series.md."""
    photos = write_photos(tmp_path / "shots", 40)
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("0*.jpg"))
    boxes = [LabelledPhoto(name, (40, 60), (LabelledObject("bright", (9, 4, 48, 31)),)) for name in names]
    write_dataset(make_dataset(boxes), tmp_path / "boxes", ["coco"])
    command = [
        sys.executable,
        "-m",
        "mobilesam",
        "annotate",
        str(photos),
        "--detector",
        str(tmp_path / "boxes"),
    ]
    command += ["--format", ",".join(FORMATS), "--val", "0.3"]
    subprocess.run([*command, "--out", str(tmp_path / "whole")], cwd=ROOT, check=False)
    wanted = tree(tmp_path / "whole")
    assert len(list((tmp_path / "whole" / "masks").rglob("*.png"))) == 40
    start = time.perf_counter()
    ended = killed_until_done([*command, "--out", str(tmp_path / "set")], tmp_path / "set", wanted, 200, 6.0)
    print(f"200 kills, {ended + 1} sets, all equal; {time.perf_counter() - start:.0f} s")


def test_a_second_run_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "shots", 3)
    with held(tmp_path / "set" / LOCK), pytest.raises(OutputError, match="another run is writing into it"):
        go(bright_run(tmp_path / "set"), photos)
    assert go(bright_run(tmp_path / "set"), photos)[-1].done == 4


def test_other_settings_are_refused_with_what_differs(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "shots", 3)
    go(bright_run(tmp_path / "set"), photos)
    before = tree(tmp_path / "set")
    other = {"threshold": 90, "model": {"name": "x"}}
    with pytest.raises(ConfigError, match="threshold was 100 and is 90; model was null and is an object"):
        go(bright_run(tmp_path / "set", settings=other), photos)
    assert tree(tmp_path / "set") == before
    assert go(bright_run(tmp_path / "set", settings=other, overwrite=True), photos)[0].done == 0


def test_files_of_others_stay(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "shots", 3)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "instances.json").write_text("mine")
    with pytest.raises(OutputError, match=r"holds other files, such as instances.json; .*overwrite=True"):
        go(bright_run(tmp_path / "set"), photos)
    assert tree(tmp_path / "set") == {"instances.json": b"mine"}


def test_only_what_is_new_or_changed_is_labelled_again(tmp_path: Path) -> None:
    photos, log = write_photos(tmp_path / "shots", 9), tmp_path / "log"
    (photos / "broken.jpg").unlink()
    go(bright_run(tmp_path / "set", log), photos)
    before = tree(tmp_path / "set")
    log.unlink()
    assert go(bright_run(tmp_path / "set", log), photos)[0].done == 9
    assert not log.exists()
    assert tree(tmp_path / "set") == before
    os.utime(photos / "001.jpg")  # a new date alone is no change
    (photos / "new.jpg").write_bytes((photos / "002.jpg").read_bytes())
    image = np.full((40, 60, 3), 250, np.uint8)
    (photos / "004.jpg").write_bytes(jpeg(image))
    dataset = go(bright_run(tmp_path / "set", log), photos)[-1].dataset
    assert sorted(log.read_text().split()) == ["004.jpg", "new.jpg"]
    assert len(dataset.photos) == 10
    changed = next(photo for photo in dataset.photos if photo.file_name == "004.jpg")
    assert changed.objects[0].mask.area == 40 * 60
    assert (tmp_path / "set" / "images" / "004.jpg").read_bytes() == (photos / "004.jpg").read_bytes()


def test_a_photo_that_was_mended_is_no_failure_any_more(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "shots", 2)
    go(bright_run(tmp_path / "set"), photos)
    (photos / "broken.jpg").write_bytes(jpeg(np.full((30, 40, 3), 200, np.uint8)))
    assert len(go(bright_run(tmp_path / "set"), photos)[-1].dataset.photos) == 3
    assert not (tmp_path / "set" / ERRORS).exists()


def test_a_damaged_record_is_not_gone_on_with(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "shots", 3)
    go(bright_run(tmp_path / "set"), photos)
    record = tmp_path / "set" / NAME
    lines = record.read_bytes().splitlines(keepends=True)
    record.write_bytes(b"".join([*lines[:2], b"\0" * 80 + b"\n", *lines[3:]]))
    with pytest.raises(ConfigError, match=r"line 3: is damaged; restore the file, or remove this line"):
        go(bright_run(tmp_path / "set"), photos)


@pytest.mark.skipif(not Path("/dev/shm").is_dir() or os.geteuid() != 0, reason="needs to mount a small disk")
def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    photos, out = write_photos(tmp_path / "shots", 80), tmp_path / "disk"
    out.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(out)], capture_output=True
    ).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        run = bright_run(out / "set", formats=("coco", "png"))
        with pytest.raises(OutputError, match="the disk is full; free some space"):
            go(run, photos)
        kept = len((out / "set" / NAME).read_bytes().splitlines()) - 1
        assert kept > 20
        subprocess.run(["mount", "-o", "remount,size=40m", str(out)], check=True)
        assert go(run, photos)[0].done >= kept - 1
        go(bright_run(tmp_path / "whole", formats=("coco", "png")), photos)
        assert tree(out / "set") == tree(tmp_path / "whole")
    finally:
        subprocess.run(["umount", str(out)], check=True)


@pytest.mark.parametrize("how", ["link", "none"])
def test_photos_may_stay_where_they_are(how: str, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "shots", 3)
    go(bright_run(tmp_path / "set", photos=how, formats=("coco",)), photos)
    images = [path for path in (tmp_path / "set").rglob("*.jpg")]
    assert [path.is_symlink() for path in images] == [True] * (3 if how == "link" else 0)
    assert all(path.read_bytes() for path in images)


def test_an_engine_keeps_the_order_and_a_bound(tmp_path: Path) -> None:
    lock, flying, most = threading.Lock(), 0, 0

    def work(number: int) -> int:
        nonlocal flying, most
        with lock:
            flying += 1
            most = max(most, flying)
        time.sleep(0.001 * (number % 5))
        with lock:
            flying -= 1
        return number

    taken = []

    def jobs() -> object:
        for number in range(50):
            taken.append(number)
            yield number

    results = LocalEngine(3).run(work, jobs())
    assert next(results) == 0
    assert len(taken) <= 3 * WINDOW + 1
    assert list(results) == list(range(1, 50))
    assert most <= 3
    for workers, error in ((0, PromptError), (1000, LimitError)):
        with pytest.raises(error, match="workers"):
            LocalEngine(workers)


def test_what_no_photo_is_to_blame_for_ends_the_run(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "shots", 5)
    begun = []

    class Broken:
        def label(self, photo: object, file_name: str) -> object:
            begun.append(file_name)
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        go(SetRun(Broken(), LocalEngine(1), tmp_path / "set", ("coco",)), photos)
    assert len(begun) <= WINDOW
    assert not (tmp_path / "set" / LOCK).exists()


def test_names_that_are_no_text_are_told(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "shots", 1)
    try:
        Path(os.fsdecode(os.fsencode(photos) + b"/\xff.jpg")).write_bytes(
            (photos / "below" / "000.jpg").read_bytes()
        )
    except OSError:
        pytest.skip("the file system takes no such name")
    go(bright_run(tmp_path / "set"), photos)
    assert "its name is not UTF-8 text" in (tmp_path / "set" / ERRORS).read_text()


def test_a_name_with_a_line_break_is_told_as_such(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "shots", 1)
    (photos / "a\nb.jpg").write_bytes((photos / "below" / "000.jpg").read_bytes())
    go(bright_run(tmp_path / "set"), photos)
    assert "its name has a line break or the like" in (tmp_path / "set" / ERRORS).read_text()


def shards(folder: Path, photos: Path) -> Path:
    """Put photos into tars, each with labels beside it that are no photos."""
    for path in sorted(photos.rglob("*.jpg")):
        name = path.relative_to(photos).as_posix()
        number = int(path.stem) % 2 if path.stem.isdigit() else 2
        members = {name: path.read_bytes(), name.replace(".jpg", ".json"): b"{}"}
        with tarfile.open(folder / f"shots-{number}.tar", "a") as tar:
            for member, data in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return folder


def test_tars_give_the_labels_of_their_photos(tmp_path: Path) -> None:
    photos, log = write_photos(tmp_path / "shots", 8), tmp_path / "log"
    (tmp_path / "shards").mkdir()
    shards(tmp_path / "shards", photos)
    before = tree(tmp_path / "shards")
    plain = go(bright_run(tmp_path / "plain"), photos)[-1].dataset
    run = bright_run(tmp_path / "set", log)
    found = find_sources([tmp_path / "shards"], beside=run.out, tars=True)
    assert found.remarks == [
        "9 files skipped (002.json, 004.json, 000.json, ...): each is not named as a photo; "
        "in a tar that is KEY.jpg or the like, without further dots"
    ]
    dataset = list(run.over(found.sources))[-1].dataset
    assert tree(tmp_path / "shards") == before
    assert len(dataset.photos) == 8
    by_place = {photo.file_name.partition("/")[2]: photo.objects for photo in dataset.photos}
    assert {name: [one.mask for one in objects] for name, objects in by_place.items()} == {
        photo.file_name: [one.mask for one in photo.objects] for photo in plain.photos
    }
    assert (tmp_path / "set" / "images" / "shots-1" / "below" / "003.jpg").is_file()
    (error,) = [json.loads(line) for line in (tmp_path / "set" / ERRORS).read_text().splitlines()]
    assert error["path"] == str(tmp_path / "shards" / "shots-2.tar" / "broken.jpg")
    log.unlink()
    written = tree(tmp_path / "set")
    list(run.over(find_sources([tmp_path / "shards"], tars=True).sources))
    assert log.exists() is False  # all are there
    assert tree(tmp_path / "set") == written


def test_a_member_that_changed_is_labelled_again(tmp_path: Path) -> None:
    photos, log = write_photos(tmp_path / "shots", 4), tmp_path / "log"
    (photos / "broken.jpg").unlink()
    shards(tmp_path, photos)
    run = bright_run(tmp_path / "set", log)
    paths = [tmp_path / "shots-0.tar", tmp_path / "shots-1.tar"]
    list(run.over(find_sources(paths, tars=True).sources))
    log.unlink()
    image = np.full((40, 60, 3), 250, np.uint8)
    (photos / "002.jpg").write_bytes(jpeg(image))
    paths[0].unlink()
    (tmp_path / "shots-1.tar").unlink()
    shards(tmp_path, photos)
    dataset = list(run.over(find_sources(paths, tars=True).sources))[-1].dataset
    assert log.read_text().split() == ["shots-0/002.jpg"]
    assert len(dataset.photos) == 4


def test_photos_in_tars_are_not_linked(tmp_path: Path) -> None:
    shards(tmp_path, write_photos(tmp_path / "shots", 2))
    with pytest.raises(
        ConfigError, match=r"cannot be link, as .* is in a tar or at an address; choose copy or none"
    ):
        list(
            bright_run(tmp_path / "set", photos="link").over(
                find_sources([tmp_path / "shots-0.tar"], tars=True).sources
            )
        )


def test_photos_at_addresses_are_labelled(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    photos = write_photos(tmp_path / "shots", 4)
    fsspec.filesystem("memory").put(str(photos), "/bucket/run", recursive=True)
    go(bright_run(tmp_path / "plain", formats=("coco",)), photos)
    run = bright_run(tmp_path / "set", formats=("coco",))
    steps = list(run.over(find_sources(["memory://bucket/run"]).sources))
    assert steps[-1].done == 5
    errors = (ERRORS, NAME)  # say where the photo that fails lies
    assert {name: data for name, data in tree(tmp_path / "set").items() if name not in errors} == {
        name: data for name, data in tree(tmp_path / "plain").items() if name not in errors
    }
    assert next(run.over(find_sources(["memory://bucket/run"]).sources)).done == 4
