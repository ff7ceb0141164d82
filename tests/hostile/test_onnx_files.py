"""ONNX files of a user's: evil, damaged or merely others are refused; what runs has an end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mobilesam import ConfigError, DeadlineError, LimitError, WeightsError, WeightsWarning
from mobilesam.runtimes.onnx_file import OnnxFile, WantedInput, open_onnx_file
from mobilesam.weights.graph_index import GRAPHS
from mobilesam.weights.onnx_graph import external_tensor
from tests.pace import within

MAX_CHARACTERS, MAX_SECONDS = 200, 6.0  # of processor time: two where nothing else runs
WANTED = [WantedInput((1, 3, None, None))]
INPUT = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 8, "width"])
ONES = numpy_helper.from_array(np.ones((1, 3, 8, 8), np.float32), "ones")
NOISE = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
Bytes = bytes


def tensor(name: str, values: object, kind: int = TensorProto.INT64) -> onnx.TensorProto:
    array = np.asarray(values)
    return helper.make_tensor(name, kind, array.shape, array.flatten())


def constant(name: str, values: object, kind: int = TensorProto.INT64) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=tensor("", values, kind))


def model(
    *nodes: onnx.NodeProto, inputs: list | None = None, weights: tuple = (), **options: object
) -> Bytes:
    """A network whose last node makes ``found``."""
    outputs = [helper.make_tensor_value_info("found", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "network", inputs or [INPUT], outputs, list(weights))
    opset = [helper.make_opsetid("", options.get("opset", 18))]
    return helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()


def adding(weight: onnx.TensorProto) -> Bytes:
    return model(helper.make_node("Add", ["images", weight.name], ["found"]), weights=(weight,))


def kept_elsewhere(location: str) -> onnx.TensorProto:
    weight = TensorProto(name="ones", data_type=TensorProto.FLOAT, dims=[1, 3, 8, 8])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    return weight


def without_location() -> onnx.TensorProto:
    weight = kept_elsewhere("weights.bin")
    del weight.external_data[:]
    return weight


def only_location() -> onnx.TensorProto:
    weight = kept_elsewhere("weights.bin")
    weight.data_location = TensorProto.DEFAULT
    return weight


def in_a_branch(weight: onnx.TensorProto) -> Bytes:
    """The tensor lies in the attribute of a node in a branch of a node."""
    branches = {}
    for name in ("then_branch", "else_branch"):
        nodes = [helper.make_node("Constant", [], [name], value=weight)]
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)]
        branches[name] = helper.make_graph(nodes, name, [], outputs)
    yes = constant("yes", True, TensorProto.BOOL)
    return model(yes, helper.make_node("If", ["yes"], ["found"], **branches))


def in_a_function(weight: onnx.TensorProto) -> Bytes:
    nodes = [helper.make_node("Constant", [], ["f"], value=weight)]
    opset = [helper.make_opsetid("", 18)]
    whole = onnx.load_from_string(model(helper.make_node("f", [], ["found"], domain="own")))
    whole.functions.append(helper.make_function("own", "f", [], ["f"], nodes, opset))
    whole.opset_import.append(helper.make_opsetid("own", 1))
    return whole.SerializeToString()


def sparse(weight: onnx.TensorProto) -> Bytes:
    whole = onnx.load_from_string(GOOD)
    values = whole.graph.sparse_initializer.add()
    values.values.CopyFrom(weight)
    return whole.SerializeToString()


def endless_loop(*, known_beforehand: bool) -> Bytes:
    """A loop of 2^62 rounds; the inputs of the first kind are all constants."""
    state = helper.make_tensor_value_info("v", TensorProto.FLOAT, None)
    inputs = [
        helper.make_tensor_value_info(n, t, [])
        for n, t in (("i", TensorProto.INT64), ("c", TensorProto.BOOL))
    ]
    nodes = [helper.make_node("Identity", ["c"], ["go"]), helper.make_node("Neg", ["v"], ["w"])]
    outputs = [
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("w", TensorProto.FLOAT, None),
    ]
    body = helper.make_graph(nodes, "body", [*inputs, state], outputs)
    start = "ones" if known_beforehand else "images"
    loop = helper.make_node("Loop", ["rounds", "yes", start], ["looped"], body=body)
    end = helper.make_node("Add", ["looped", "images"], ["found"])
    return model(
        constant("rounds", 2**62), constant("yes", True, TensorProto.BOOL), loop, end, weights=(ONES,)
    )


def huge_constant(count: int) -> Bytes:
    size = constant("size", [count])
    zeros = helper.make_node("ConstantOfShape", ["size"], ["zeros"])
    total = helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0)
    return model(size, zeros, total, helper.make_node("Add", ["sum", "images"], ["found"]))


def graph_of(content: Bytes) -> Bytes:
    """A model that is this graph: the version of the form, then field 7 with its length."""
    return b"\x08\x09\x3a" + length_of(content) + content


def nested(depth: int) -> Bytes:
    """A graph in an attribute of a node of a graph, and so on."""
    content = b""
    for _ in range(depth):
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # graph of an attribute, attribute of a node, node of a graph
            content = tag + length_of(content) + content
    return graph_of(content)


def length_of(content: Bytes) -> Bytes:
    digits, left = b"", len(content)
    while left > 127:
        digits, left = digits + bytes([left & 127 | 128]), left >> 7
    return digits + bytes([left])


GOOD = adding(ONES)
DAMAGED = r"damaged, or not an ONNX file \(.+\); give an \.onnx file$"
ELSEWHERE = r"keeps numbers in other files \(tensor ones\); export it as one file$"
NOT_OPENED = r"ONNX Runtime [\d.]+ does not open it \(.+\); export it again$"
OTHER_INPUTS = r"has inputs .+; wanted, as float32: any name \(1, 3, any, any\)$"
LOCATIONS = ("../weights.bin", "/etc/passwd", "link.bin", "hardlink.bin", "weights.bin", "")


def sides(*shape: object) -> list:
    return [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)]


def negated(inputs: list) -> Bytes:
    return model(helper.make_node("Neg", [inputs[0].name], ["found"]), inputs=inputs)


def whole_numbers() -> Bytes:
    inputs = [helper.make_tensor_value_info("images", TensorProto.UINT8, [1, 3, 8, 8])]
    return model(helper.make_node("Cast", ["images"], ["found"], to=TensorProto.FLOAT), inputs=inputs)


# fmt: off
REFUSED: dict[str, tuple[Bytes, str]] = {
    **{f"W57 numbers in {place or 'no file'}": (adding(kept_elsewhere(place)), ELSEWHERE) for place in LOCATIONS},
    "W57 elsewhere, but not where": (adding(without_location()), ELSEWHERE),
    "W57 a place, but not elsewhere": (adding(only_location()), ELSEWHERE),
    "W57 in a branch": (in_a_branch(kept_elsewhere("weights.bin")), ELSEWHERE),
    "W57 in a function": (in_a_function(kept_elsewhere("weights.bin")), ELSEWHERE),
    "W57 in a sparse tensor": (sparse(kept_elsewhere("weights.bin")), ELSEWHERE),
    "W57 the flag as a number of 33 bits": (adding(without_location()).replace(b"\x70\x01", b"\x70\x81\x80\x80\x80\x10"), "damaged|keeps numbers"),
    "W57 the package's own graph": ((GRAPHS / "pocket-decoder.onnx").read_bytes(), r"keeps numbers in other files \(tensor \S+\)"),
    "W58 no bytes": (b"", DAMAGED),
    "W58 one byte": (b"\x08", DAMAGED),
    "W58 text": (b"hello there, this is no network\n", DAMAGED),
    "W58 noise": (np.random.default_rng(1).bytes(100_000), DAMAGED),
    "W58 zeros": (bytes(100_000), DAMAGED),
    "W58 a checkpoint": (b"PK\3\4" + bytes(100), DAMAGED),
    "W58 no graph": (b"\x08\x09", DAMAGED),
    "W58 an empty graph": (graph_of(b""), f"{NOT_OPENED}|{OTHER_INPUTS}"),
    "W58 more claimed than there is": (b"\x08\x09\x3a\xff\xff\xff\xff\x07", DAMAGED),
    "W58 two to the 63rd claimed": (b"\x08\x09\x3a" + b"\xff" * 8 + b"\x7f", DAMAGED),
    "W58 a number without end": (b"\x08" + b"\xff" * 50, DAMAGED),
    "W58 two million empty nodes": (graph_of(b"\x0a\x00" * 2_000_000), "describes more than any network"),
    "W58 names of 40 MB": (graph_of(b"\x12\x80\x80\x80\x14" + bytes(40 * 2**20)), "describes more than any network"),
    "W58 graphs in graphs": (nested(5000), NOT_OPENED),
    "W59 operator of nobody's": (model(helper.make_node("Evil", ["images"], ["found"], domain="evil.example")), NOT_OPENED),
    "W59 unknown operator": (model(helper.make_node("Evil", ["images"], ["found"])), NOT_OPENED),
    "W59 opset 999": (model(helper.make_node("Neg", ["images"], ["found"]), opset=999), NOT_OPENED),
    "W59 no opset": (model(helper.make_node("Neg", ["images"], ["found"]), opset=0), NOT_OPENED),
    "W59 channels last": (negated(sides(1, 8, 8, 3)), OTHER_INPUTS),
    "W59 three sides": (negated(sides(3, 8, 8)), OTHER_INPUTS),
    "W59 batches of four": (negated(sides(4, 3, 8, 8)), OTHER_INPUTS),
    "W59 whole numbers": (whole_numbers(), OTHER_INPUTS),
    "W59 two inputs": (model(helper.make_node("Add", ["images", "b"], ["found"]), inputs=[*sides(1, 3, 8, 8), helper.make_tensor_value_info("b", TensorProto.FLOAT, [1])]), OTHER_INPUTS),
    "W59 terminal codes in a name": (negated([helper.make_tensor_value_info("\x1b[2J", TensorProto.FLOAT, [1])]), OTHER_INPUTS),
}
# fmt: on


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_refused_at_once_in_one_line(case: str, tmp_path: Path, monkeypatch, capfd) -> None:
    """What lies beside the file would be right, and is in the working folder, where bytes look for it."""
    monkeypatch.chdir(tmp_path)
    Path("weights.bin").write_bytes(np.ones((1, 3, 8, 8), np.float32).tobytes())
    Path("link.bin").symlink_to("weights.bin")
    os.link("weights.bin", "hardlink.bin")
    content, says = REFUSED[case]
    Path("detector.onnx").write_bytes(content)
    start = time.process_time()
    with pytest.raises(WeightsError, match=says) as caught:
        open_onnx_file("detector.onnx", WANTED)
    assert within(time.process_time() - start, MAX_SECONDS)
    message = str(caught.value)
    assert message.startswith("detector.onnx: ")
    assert message.isprintable()
    assert len(message) <= MAX_CHARACTERS, message
    assert capfd.readouterr() == ("", "")


def to_missing(path: Path) -> None:
    pass


def to_sparse_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(3 * 2**30)


WHAT_IS_NO_FILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "W58 missing": (to_missing, "not found; give an .onnx file"),
    "W58 a folder": (Path.mkdir, "is not a file"),
    "W58 a pipe": (os.mkfifo, "is not a file"),
    "W58 an endless device": (lambda path: path.symlink_to("/dev/zero"), "is not a file"),
    "W58 three gigabytes": (to_sparse_file, "has 3,221,225,472 bytes, files up to 1,073,741,824 are read"),
}


@pytest.mark.parametrize("case", WHAT_IS_NO_FILE, ids=str)
def test_what_is_no_file(case: str, tmp_path: Path) -> None:
    make, says = WHAT_IS_NO_FILE[case]
    make(tmp_path / "detector.onnx")
    with pytest.raises(WeightsError, match=re.escape(says)):
        open_onnx_file(tmp_path / "detector.onnx")


def test_W58_cut_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "detector.onnx"
    for end in range(0, len(GOOD), 7):
        path.write_bytes(GOOD[:end])
        with pytest.raises(WeightsError, match=r"detector\.onnx: "):
            open_onnx_file(path, WANTED)


MUTATE = """
import sys, warnings
import numpy as np
from mobilesam import MobileSamError
from mobilesam.runtimes.onnx_file import WantedInput, open_onnx_file

warnings.simplefilter("ignore")
path, good, rng = sys.argv[1], open(sys.argv[1], "rb").read(), np.random.default_rng(int(sys.argv[2]))
ends = {"ran": 0, "refused": 0}
for _ in range(int(sys.argv[3])):
    data = bytearray(good)
    for place in rng.integers(len(data), size=rng.integers(1, 4)):
        data[place] = rng.integers(256)
    open(path, "wb").write(data)
    try:
        file = open_onnx_file(path, [WantedInput((1, 3, None, None))], seconds=2, threads=1)
        file.run({name: np.ones((1, 3, 8, 8), np.float32) for name in file.inputs})
        ends["ran"] += 1
    except MobileSamError:
        ends["refused"] += 1
print(ends["ran"], ends["refused"])
"""


def mutated(tmp_path: Path, count: int, seed: int) -> list[int]:
    """How many damaged files still run and how many are refused, by a process that may die of one."""
    path = tmp_path / "detector.onnx"
    path.write_bytes(GOOD)
    line = [sys.executable, "-c", MUTATE, path, str(seed), str(count)]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return [int(word) for word in done.stdout.split()]


def test_W58_damaged_at_three_hundred_places(tmp_path: Path) -> None:
    ran, refused = mutated(tmp_path, 300, 0)
    assert ran + refused == 300
    assert refused > 30


@pytest.mark.long
def test_W58_ten_thousand_damaged_files(tmp_path: Path) -> None:
    for seed in range(1, 11):
        assert sum(mutated(tmp_path, 1000, seed)) == 1000


def opened(content: Bytes, tmp_path: Path, **options: object) -> OnnxFile:
    path = tmp_path / "detector.onnx"
    path.write_bytes(content)
    with pytest.warns(
        WeightsWarning, match=r"an ONNX file of unknown origin: use only files of people you trust"
    ):
        return open_onnx_file(path, WANTED, **options)


def test_W60_a_file_that_is_not_known_gives_a_warning_and_runs(tmp_path: Path) -> None:
    file = opened(GOOD, tmp_path)
    np.testing.assert_array_equal(file.run({"images": NOISE})["found"], NOISE + 1)
    assert file.inputs == {"images": (1, 3, 8, None)}
    assert file.outputs == ("found",)
    assert file.seconds == 60
    for known in ({file.sha256}, None):  # warnings are errors here
        trusted = open_onnx_file(file.path, WANTED, known=known)
        assert trusted.seconds is None
        np.testing.assert_array_equal(trusted.run({"images": NOISE})["found"], NOISE + 1)


@pytest.mark.parametrize("known_beforehand", [True, False])
def test_W60_a_loop_without_end(tmp_path: Path, known_beforehand: bool, capfd) -> None:
    file = opened(endless_loop(known_beforehand=known_beforehand), tmp_path, seconds=0.3)
    start = time.monotonic()
    with pytest.raises(DeadlineError, match=r"detector\.onnx: stopped after 0\.3 s; give a smaller network"):
        file.run({"images": NOISE})
    assert time.monotonic() - start < 5
    assert capfd.readouterr() == ("", "")


def test_W60_a_constant_of_a_hundred_gigabytes(tmp_path: Path, capfd) -> None:
    file = opened(huge_constant(25 * 10**9), tmp_path)
    with pytest.raises(LimitError, match="not enough memory to run it"):
        file.run({"images": NOISE})
    assert capfd.readouterr() == ("", "")


def test_W59_a_run_that_fails_names_the_file(tmp_path: Path) -> None:
    file = opened(GOOD, tmp_path)
    with pytest.raises(WeightsError, match=r"detector\.onnx: cannot be run \(.*\); export it again$"):
        file.run({"images": NOISE[..., :5]})


def test_W59_a_device_that_is_not_here(tmp_path: Path) -> None:
    (tmp_path / "detector.onnx").write_bytes(GOOD)
    with pytest.raises(ConfigError, match="device 'tpu': not here; ONNX Runtime has cpu"):
        open_onnx_file(tmp_path / "detector.onnx", device="tpu")


def test_W57_every_graph_of_the_package_is_seen_to_be_without_its_numbers() -> None:
    """And by ONNX's own package: the first of its tensors that lie elsewhere."""
    for path in GRAPHS.glob("*.onnx"):
        data = path.read_bytes()
        names = [t.name for t in onnx.load_from_string(data).graph.initializer if t.data_location]
        found = external_tensor(data)
        assert found is not None
        assert any(name.startswith(found) for name in names)
