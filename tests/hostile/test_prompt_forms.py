"""Prompts as they are written, rows Q34 and Q39 to Q66: files, options, and a model under stress."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mobilesam import Prompt, PromptError
from mobilesam.cli.main import run
from mobilesam.core.rle import counts_to_string, mask_to_rle
from mobilesam.core.types import Embedding
from mobilesam.formats.image import image_to_png, read_mask
from mobilesam.formats.prompt_file import read_prompts
from mobilesam.segment.model import Model
from tests.hostile.image_parts import PNG_START, chunk, encoded, exif, header, zlib_zeros
from tests.pace import within

HEIGHT, WIDTH = 48, 64
IMAGE = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
SOME = np.zeros((HEIGHT, WIDTH), bool)
SOME[10:30, 10:40] = True
TURNED = encoded(np.rot90(SOME).astype(np.uint8) * 255, "PNG", exif=b"Exif\0\0" + exif(6))
BOMB = PNG_START + header(50_000, 50_000) + chunk(b"IDAT", zlib_zeros(99)) + chunk(b"IEND", b"")
EXIT = {"U": 2, "S": 2, "I": 3, "L": 7}
RLE = mask_to_rle(SOME).to_dict(compressed=False)
BOX = ["--box", "1,2,30,40"]


@pytest.fixture
def command(
    keeping: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> Callable[..., tuple[int, str]]:
    """Run the command in this process with the model that is loaded already; return code and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mobilesam.cli.segment.load_model", lambda *_, **__: keeping)
    Path("i.png").write_bytes(image_to_png(IMAGE))

    def run_command(*arguments: str) -> tuple[int, str]:
        code = run(["segment", "i.png", *arguments, "--save", "mask", "--overwrite"])
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return code, error

    return run_command


def file_of(**fields: object) -> str:
    return json.dumps({"version": 1, "objects": [fields]})


def runs(*counts: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> str:
    return file_of(mask={"size": list(size), "counts": list(counts)})


# fmt: off
FILES = [
    ("Q39-mask-that-is-none", file_of(mask="note.png"), "I", "is text, not an image"),
    ("Q39-mask-of-another-shape", file_of(mask="small.png"), "S", r"mask: has shape \(5, 7\); must be a boolean mask of \(48, 64\)"),
    ("Q39-mask-that-is-missing", file_of(mask="gone.png"), "I", "not found"),
    ("Q40-short", runs(5, 5), "S", r"add up to 10, not to 48 x 64 = 3072"),
    ("Q40-negative", runs(3072, -8, 8), "S", r"objects\[0\].mask.counts\[1\]: is -8; a run may not be negative"),
    ("Q40-longer-than-the-mask", runs(3080, -8), "S", r"mask.counts\[0\]: is 3080; a run may not exceed the mask's 3,072 pixels"),
    ("Q40-sum-that-overflows", runs(*[2**62] * 4, 3072), "S", r"mask.counts\[0\]: is 4611686018427387904; a run may not exceed"),
    ("Q40-text-that-overflows", file_of(mask={"size": [48, 64], "counts": counts_to_string(np.array([2**59] * 8 + [3072]))}), "S", "mask.counts: a run is longer than any picture"),
    ("Q40-text-beyond-the-mask", file_of(mask={"size": [48, 64], "counts": counts_to_string(np.array([2**40] * 8 + [3072]))}), "S", r"mask.counts\[0\]: a run exceeds the mask's 3,072 pixels"),
    ("Q40-no-numbers", file_of(mask={"size": [48, 64], "counts": ["a"]}), "S", r"mask.counts\[0\]: is 'a'; a run is a whole number"),
    ("Q40-broken-numbers", file_of(mask={"size": [48, 64], "counts": [3072.0]}), "S", r"mask.counts\[0\]: is 3072.0; a run is a whole number"),
    ("Q40-truth", file_of(mask={"size": [1, 1], "counts": [True]}), "S", r"mask.counts\[0\]: is true; a run is a whole number"),
    ("Q40-size-of-text", file_of(mask={"size": ["48", 64], "counts": [3072]}), "S", r"mask.size\[0\]: is '48'; must be a whole number"),
    ("Q40-size-of-three", file_of(mask={"size": [48, 64, 1], "counts": [3072]}), "S", r"mask.size: is a list of 3; must be \[height, width\]"),
    ("Q40-broken-text", file_of(mask={"size": [48, 64], "counts": "~~\x7f"}), "S", "mask.counts: not a compressed run-length code"),
    ("Q40-text-not-in-ascii", file_of(mask={"size": [48, 64], "counts": "é"}), "S", "mask.counts: not a compressed run-length code"),
    ("Q40-no-size", file_of(mask={"counts": [3072]}), "S", r"mask.size: is missing; a run-length code has size and counts"),
    ("Q40-a-list", file_of(mask=[3072]), "U", r"objects\[0\].mask: is a list of 1; must be a text or an object"),
    *((f"Q42-mask-elsewhere-{i}", file_of(mask=name), "U", rf"objects\[0\].mask: is .*{message}") for i, (name, message) in enumerate([
        ("/etc/passwd", "not an absolute path"), ("../m.png", r"without '\.\.'"), ("a/../../m.png", r"without '\.\.'"), ("C:\\m.png", "not an absolute path"), ("c:m.png", "not an absolute path"),
        ("..\\m.png", "write / between folders"), ("\\\\host\\m.png", "not an absolute path"), ("~/m.png", "not an absolute path"), (" ", "must be a file's name"), ("a\0.png", "must be a file's name"),
        ("\ud800.png", "must be a file's name"), ("a" * 256, "too long"), ("link.png", "a symbolic link leads out"), ("links/m.png", "a symbolic link leads out")])),
    ("Q42-mask-of-a-long-name", file_of(mask="a/" * 600), "U", "mask: is .*too long for a file's name"),
    ("Q40-swapped", runs(3072, size=(WIDTH, HEIGHT)), "S", r"mask: has shape \(64, 48\); must be"),
    ("Q40-enormous", runs(10**12, size=(10**6, 10**6)), "L", "50,000,000 pixels, the limit"),
    ("Q41-polygon", file_of(polygon=[[1, 2], [3, 4], [5, 6]]), "U", "unknown field 'polygon'; known are points, labels, box, mask, label"),
    ("Q42-mask-bomb", file_of(mask="bomb.png"), "L", "2,500,000,000 pixels, over the limit"),
    ("Q55-text-of-an-object", file_of(text="a dog"), "U", "unknown field 'text'"),
    ("Q55-text-of-a-file", json.dumps({"text": ["a dog"]}), "U", "unknown field 'text', did you mean 'texts'"),
    ("Q51-threshold", file_of(box=[1, 2, 3, 4], threshold=2), "U", "unknown field 'threshold'"),
    ("Q55-misspelt", file_of(points=[[1, 2]], lables=[1]), "U", "unknown field 'lables', did you mean 'labels'?"),
    ("Q55-terminal-codes", json.dumps({"\x1b[31m": 1}), "U", r"unknown field '\\x1b"),
    ("Q56-twice", '{"objects": [{"box": [1,2,3,4], "box": [5,6,7,8]}]}', "U", "field 'box' is there twice"),
    ("Q56-twice-among-many", "{" + ",".join(f'"{i % 9999}": 1' for i in range(20_000)) + "}", "U", "field '0' is there twice in one object"),
    ("Q56-twice-inside", '{"objects": [{"box": [1,2,3,4]}, {"mask": {"size": 1, "size": 2}}]}', "U", r"objects\[1\].mask: field 'size' is there twice"),
    ("Q56-too-deep", "[" * 100_000, "U", r"not JSON that can be read: nested deeper than 64 lists and objects at \[0\]\[0\]"),
    ("Q56-deep-and-whole", '{"objects": [{"points": ' + "[" * 99 + "]" * 99 + "}]}", "U", r"nested deeper than 64 .* at objects\[0\].points\[0\]"),
    ("Q56-not-json", "{", "U", "not JSON"),
    ("Q56-no-object", "[]", "U", "must be an object such as"),
    ("Q56-null", "null", "U", "must be an object such as"),
    ("Q56-object-that-is-none", '{"objects": [{"box": [1,2,3,4]}, 7]}', "U", r"objects\[1\]: is 7; must be an object with points, labels, box, mask, label"),
    ("Q56-objects-that-are-none", '{"objects": {"0": 1}}', "U", "objects: is an object; must be a list"),
    ("Q01-nan", '{"objects": [{"points": [[NaN, 1]]}]}', "S", r"holds NaN at objects\[0\].points\[0\]\[0\]; must be finite"),
    ("Q02-infinity", '{"objects": [{"box": [1, 2, 3, -Infinity]}]}', "S", r"holds -Infinity at objects\[0\].box\[3\]"),
    ("Q03-1e400", '{"objects": [{"box": [1, 2, 3, 1e400]}]}', "S", r"holds a number beyond 1.8e308 at objects\[0\].box\[3\]"),
    ("Q03-5000-digits", '{"objects": [{"box": [1, 2, 3, ' + "9" * 5000 + "]}]}", "S", r"holds a number of 5,000 digits at objects\[0\].box\[3\]"),
    ("Q03-version-of-400-digits", '{"version": ' + "9" * 400 + "}", "U", r"version about 2\^1328; this program reads version 1"),
]
OPTIONS = [
    ("Q34-two-boxes-and-a-point", [*BOX, *BOX, "--point", "3,3"], "U", "--box: 2 boxes together with points"),
    ("Q41-polygon", ["--polygon", "1,2,3,4,5,6"], "U", "No such option"),
    ("Q50-multimask", ["--multimask", "false"], "U", "No such option"),
    ("Q51-threshold", ["--threshold", "nan"], "U", "No such option"),
    ("Q53-max-masks", ["--max-masks", "-1"], "U", "No such option"),
    ("Q53-max-pixels", [*BOX, "--max-pixels", "0"], "U", "0 is not in the range x>=1"),
    ("Q53-max-pixels-text", [*BOX, "--max-pixels", "1e6"], "U", "'1e6' is not a valid integer"),
    ("Q55-misspelt", ["--pint", "1,2"], "U", "No such option.*--point"),
    ("Q64-one-number", ["--point", "1"], "U", "'1' is not a point; write X,Y or X,Y,LABEL such as 210,140"),
    ("Q64-semicolon", ["--point", "1;2"], "U", "'1;2' is not a point; write X,Y"),
    ("Q64-comma-decimals", ["--point", "1,5;2,5"], "U", "is not a point; write X,Y"),
    ("Q64-decimal-commas", ["--point", "1,5,2,5"], "U", "is not a point; write X,Y"),
    ("Q64-words", ["--point", "left,top"], "U", "is not a point; write X,Y"),
    ("Q64-empty", ["--point", ""], "U", "is not a point; write X,Y"),
    ("Q64-missing", ["--point"], "U", "'--save' is not a point; write X,Y"),
    ("Q64-negative", ["--point=-5,3"], "S", r"points\[0\].x: is -5, outside the image of 64 x 48"),
    ("Q64-negative-apart", ["--point", "-5,3"], "S", r"points\[0\].x: is -5, outside"),
    ("Q64-digits-elsewhere", ["--point", "1_0,2x"], "U", "is not a point"),
    ("Q64-percent-outside", ["--point", "101%,3"], "S", r"points\[0\].x: is 64.64, outside"),
    ("Q64-percent-inf", ["--point", "inf%,3"], "S", r"points\[0\].x: is inf"),
    ("Q64-box-of-three", ["--box", "1,2,3"], "U", "is not a box; write X0,Y0,X1,Y1 such as"),
    ("Q64-box-with-spaces", ["--box", "1 2 3 4"], "U", "is not a box; write X0,Y0,X1,Y1"),
]
# fmt: on


@pytest.mark.parametrize(("text", "code", "message"), [f[1:] for f in FILES], ids=[f[0] for f in FILES])
def test_prompt_files(command: Callable, tmp_path: Path, text: str, code: str, message: str) -> None:
    Path("p.json").write_text(text)
    Path("note.png").write_text("a note")
    Path("small.png").write_bytes(image_to_png(SOME[:5, :7]))
    Path("bomb.png").write_bytes(BOMB)
    elsewhere = tmp_path.with_name(f"{tmp_path.name}-elsewhere")
    elsewhere.mkdir()
    (elsewhere / "m.png").write_bytes(image_to_png(SOME))
    Path("link.png").symlink_to(elsewhere / "m.png")
    Path("links").symlink_to(elsewhere)
    told(command("--prompts", "p.json"), code, message)


def test_Q42_masks_behind_links_are_read_where_they_may(command: Callable, tmp_path: Path) -> None:
    (elsewhere := tmp_path.with_name(f"{tmp_path.name}-elsewhere")).mkdir()
    (elsewhere / "m.png").write_bytes(image_to_png(SOME))
    Path("masks").mkdir()
    Path("masks/own.png").write_bytes(image_to_png(SOME))
    Path("link.png").symlink_to(elsewhere / "m.png")
    Path("inside.png").symlink_to("masks/own.png")
    Path("p.json").write_text(file_of(mask="link.png"))
    assert command("--prompts", "p.json", "--follow-symlinks")[0] == 0
    for name in ("inside.png", "masks/own.png"):
        Path("p.json").write_text(file_of(mask=name))
        assert command("--prompts", "p.json")[0] == 0


def test_Q32_a_file_of_no_objects_has_no_masks(command: Callable, capsys: pytest.CaptureFixture) -> None:
    Path("p.json").write_text('{"version": 1, "objects": []}')
    status, error = command("--prompts", "p.json")
    assert (status, error) == (0, "warning: p.json: objects: is empty; there is nothing to segment\n")
    assert run(["segment", "i.png", "--prompts", "p.json", "--save", "overlay,coco,npz", "--json"]) == 0
    (image,) = json.loads(capsys.readouterr().out)["images"]
    assert image["objects"] == []
    assert json.loads(Path("mobilesam-out/i_coco.json").read_text())["annotations"] == []
    arrays = np.load("mobilesam-out/i_masks.npz")
    assert arrays["masks"].shape == (0, HEIGHT, WIDTH)
    assert arrays["low_res_masks"].shape == (0, 384, 384)


def test_Q56_repeated_keys_are_refused_at_once(tmp_path: Path) -> None:
    keys = ",".join(f'"k{i % 12_000}":{i}' for i in range(24_000))
    (path := tmp_path / "p.json").write_text('{"objects": [{' + keys + "}]}")
    start = time.process_time()
    with pytest.raises(PromptError, match=r"objects\[0\]: field 'k0' is there twice"):
        read_prompts(path)
    assert within(time.process_time() - start, 0.2)


def test_Q42_small_files_of_large_masks_take_little_memory(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(image_to_png(np.zeros((4000, 4000), bool)))
    masks = ["m.png", {"size": [4000, 4000], "counts": [16_000_000]}]
    (path := tmp_path / "p.json").write_text(
        json.dumps({"objects": [{"mask": mask} for mask in masks] * 1000})
    )
    tracemalloc.start()
    assert len(read_prompts(path).prompts) == 2000  # 32 GB, if they were decoded
    assert tracemalloc.get_traced_memory()[1] < 2**30
    tracemalloc.stop()


def test_messages_stay_short(tmp_path: Path) -> None:
    long = "k" * 100_000
    for text in (f'{{"{long}": 1}}', f'{{"objects": [{{"{long}": 1}}]}}', f'{{"{long}": NaN}}', f'{{"{long}": 1, "{long}": 2}}',
                 f'{{"version": "{long}", "objects": []}}', file_of(mask={"size": [1, 1], "counts": [long]}), f'{{"objects": "{long}"}}'):  # fmt: skip
        (path := tmp_path / "p.json").write_text(text)
        with pytest.raises(PromptError) as caught:
            read_prompts(path)
        assert len(str(caught.value)) - len(str(path)) < 300
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("arguments", "code", "message"), [o[1:] for o in OPTIONS], ids=[o[0] for o in OPTIONS]
)
def test_options(command: Callable, arguments: list[str], code: str, message: str) -> None:
    told(command(*arguments), code, message)


def told(ended: tuple[int, str], code: str, message: str) -> None:
    """The command ended with the code, and one short line says so."""
    status, error = ended
    assert status == EXIT[code], error
    (line,) = [line for line in error.splitlines() if line.startswith("error[")]
    assert re.search(rf"^error\[{code}\]: .*{message}", line), line
    assert len(line) <= 300
    assert line.isprintable()


@pytest.mark.parametrize(
    ("mask", "arguments"),
    [
        (TURNED, ["--mask", "m.png"]),
        (image_to_png(SOME), ["--mask", "m.png"]),
        (image_to_png(SOME), ["--prompts", "p.json"]),
    ],
    ids=["Q39-turned-by-exif", "Q39-as-it-is", "Q40-as-runs"],
)
def test_masks_from_files_are_upright(
    command: Callable, keeping: Model, mask: bytes, arguments: list[str]
) -> None:
    Path("m.png").write_bytes(mask)
    Path("p.json").write_text(file_of(mask=RLE))
    status, error = command(*arguments)
    assert status == 0, error
    wanted = keeping.segment(keeping.embed(IMAGE), Prompt(mask=SOME)).mask
    np.testing.assert_array_equal(read_mask("mobilesam-out/i_1_mask.png"), wanted)


@pytest.mark.parametrize("name", ["text", "threshold", "lables"], ids=["Q55-text", "Q51", "Q55"])
def test_the_library_has_no_such_argument(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        Prompt(**{name: 1})


@pytest.mark.parametrize(
    "name",
    ["sam9", "./pocket.safetensors", "pocket\N{EN DASH}1", "", "\x1b[31m"],
    ids=lambda n: f"Q65-{n!r}",
)
def test_unknown_models(name: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("i.png").write_bytes(image_to_png(IMAGE))
    status = run(["segment", "i.png", *BOX, "--model", name])
    told(
        (status, capsys.readouterr().err),
        "U",
        "is a file's name; give the model" if "/" in name else "unknown; choose pocket",
    )


def test_Q65_a_dash_that_is_none(command: Callable) -> None:
    told(command("\N{EM DASH}box", "1,2,3,4"), "S", "no prompt: give --point")


@pytest.fixture(scope="module")
def embedding(pocket: Model) -> Embedding:
    return pocket.embed(IMAGE)


def boxes() -> list[Prompt]:
    return [Prompt(box=[i, i, 30 + i, 20 + i]) for i in range(8)]


def series(model: Model, embedding: Embedding, count: int) -> None:
    """Two threads ask one model about different boxes, each checking its own answers."""
    wanted = [model.segment(embedding, prompt).low_res_masks for prompt in boxes()]
    wrong: list[int] = []

    def ask(first: int) -> None:
        for i in range(first, count, 2):
            got = model.segment(embedding, boxes()[i % 8]).low_res_masks
            if not np.array_equal(got, wanted[i % 8]):
                wrong.append(i)

    threads = [threading.Thread(target=ask, args=(first,)) for first in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_Q59_two_threads_on_one_model(pocket: Model, embedding: Embedding) -> None:
    series(pocket, embedding, 60)


@pytest.mark.long
def test_Q59_ten_thousand_calls_from_two_threads(pocket: Model, embedding: Embedding) -> None:
    series(pocket, embedding, 10_000)


def test_Q60_a_pickled_model_answers_the_same(pocket: Model, embedding: Embedding) -> None:
    copy = pickle.loads(pickle.dumps(pocket))
    for one, other in zip(pocket.segment(embedding, boxes()), copy.segment(embedding, boxes()), strict=True):
        np.testing.assert_array_equal(one.low_res_masks, other.low_res_masks)


def in_the_child(model: Model, embedding: Embedding, answer: object) -> None:
    answer.put(model.segment(embedding, boxes()[0]).low_res_masks.tobytes())


@pytest.mark.skipif(sys.platform == "win32", reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of forking beside threads: the point
def test_Q60_a_forked_model_answers_the_same(pocket: Model, embedding: Embedding) -> None:
    wanted = pocket.segment(embedding, boxes()[0]).low_res_masks.tobytes()
    fork = multiprocessing.get_context("fork")
    answer = fork.Queue()
    child = fork.Process(target=in_the_child, args=(pocket, embedding, answer))
    child.start()
    assert answer.get(timeout=60) == wanted
    child.join(timeout=60)
    assert child.exitcode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX timers")
def test_Q61_interrupted_and_asked_again(pocket: Model, embedding: Embedding) -> None:
    fresh = [result.low_res_masks for result in pocket.segment(embedding, boxes())]
    start = time.perf_counter()
    pocket.segment(embedding, boxes())
    whole = time.perf_counter() - start

    asking = threading.Event()

    def interrupt(number: int, frame: object) -> None:
        if asking.is_set():
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    try:
        for part in np.linspace(0.05, 0.9, 6):
            try:
                asking.set()
                signal.setitimer(signal.ITIMER_REAL, whole * part)
                pocket.segment(embedding, boxes())
                asking.clear()
            except KeyboardInterrupt:
                interrupted += 1
            finally:
                asking.clear()
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted >= 2
    again = [result.low_res_masks for result in pocket.segment(embedding, boxes())]
    np.testing.assert_array_equal(again, fresh)


STARVED = """
import resource
import numpy as np
from mobilesam import LimitError, Prompt, load

model = load("pocket", threads=1)
embedding = model.embed(np.zeros((48, 64, 3), np.uint8))
prompts = [Prompt(box=[i, i, 30 + i, 20 + i]) for i in range(8)]
fresh = model.segment(embedding, prompts[0]).low_res_masks
used = int(open("/proc/self/status").read().split("VmSize:")[1].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 2**20, resource.RLIM_INFINITY))
try:
    model.segment(embedding, prompts)
except LimitError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print((model.segment(embedding, prompts[0]).low_res_masks == fresh).all())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc on this system")
def test_Q62_without_memory_for_a_batch() -> None:
    # An allocator that keeps its pages would have room left for the batch.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", STARVED], capture_output=True, text=True, timeout=60, env=plain
    )
    assert done.returncode == 0, done.stderr
    error, equal = done.stdout.splitlines()
    assert error == "decoder: not enough memory for this step; free some, or give fewer prompts"
    assert equal == "True"
