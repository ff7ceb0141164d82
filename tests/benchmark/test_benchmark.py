"""Size and speed are measured, not guessed; what cannot be measured says why. Nothing here depends on how fast the machine is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mobilesam.benchmark.macs import CountingRuntime, node_macs
from mobilesam.benchmark.measure import BenchmarkOptions, Candidate, Timing, measure_each
from mobilesam.benchmark.peers import PROTOCOL_VARIABLE, make_environment, read_peers
from mobilesam.benchmark.process import Worker
from mobilesam.benchmark.protocol import PHASES
from mobilesam.benchmark.published import published_tables
from mobilesam.benchmark.report import Benchmark
from mobilesam.benchmark.systems import OURS, RANDOM, open_system, random_weights
from mobilesam.cli.main import run
from mobilesam.core.errors import ConfigError, DeadlineError
from mobilesam.core.types import MULTIMASK, DecoderInputs
from mobilesam.networks.build import build_network
from mobilesam.networks.tiny_vit import WindowAttention
from mobilesam.weights import entry_of
from mobilesam.weights.graph_index import graph_index
from tests.photos import cat

ROOT = Path(__file__).parents[2]
SHORT = BenchmarkOptions(runs=2, warm_up=1, seconds=0.5, answer=120)
POINT = DecoderInputs(np.array([[[200, 200], [0, 0]]], np.float32), np.array([[1, -1]], np.float32))

# A peer that speaks the protocol by its file alone, as those of bench/peers do.
PEER = """
import importlib.util, os, sys, time
spec = importlib.util.spec_from_file_location("protocol", os.environ["MOBILESAM_BENCH_PROTOCOL"])
told = importlib.util.module_from_spec(spec); sys.modules["protocol"] = told; spec.loader.exec_module(told)
print("Welcome!")
def load(asked):
    print("loading", asked["system"])  # a library's chatter is no answer
    if asked["system"] == "broken":
        raise RuntimeError("no such network")
    if asked["system"] == "dead":
        sys.exit("out of luck")
    if asked["system"] == "late":
        time.sleep(60)
    size = told.image_at(asked["photo"]).size
    work = lambda: lambda: sum(range(size // 100))
    return told.Loaded({"parameters": 7, "weights": "random"}, {"encoder": work, "one pass": work})
told.serve(load)
"""


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "cat.png"
    Image.fromarray(cat()[:120, :160]).save(path)
    return path


@pytest.fixture
def peers(tmp_path: Path) -> Path:
    folder = tmp_path / "peers"
    folder.mkdir()
    (folder / "peer.py").write_text(PEER)
    (folder / "own.toml").write_text(
        'packages = ["numpy"]\nlicence = "MIT"\nworker = "peer.py"\n[systems]\nfine = "a peer"\nbroken = "a broken one"\n'
    )
    return folder


def peer(name: str, folder: Path) -> Candidate:
    protocol = ROOT / "src/mobilesam/benchmark/protocol.py"
    return Candidate(
        name, name, (sys.executable, str(folder / "peer.py")), {PROTOCOL_VARIABLE: str(protocol)}
    )


def test_multiplications_of_nodes() -> None:
    """Against a reckoning by hand: each number of the output times what is summed for it."""
    assert node_macs("Conv", [[1, 8, 6, 6], [16, 1, 3, 3]], [1, 16, 6, 6]) == 16 * 6 * 6 * 9  # depthwise
    assert node_macs("MatMul", [[1, 4, 10, 5], [1, 4, 5, 7]], [1, 4, 10, 7]) == 4 * 10 * 7 * 5
    assert node_macs("Gemm", [[6, 5], [7, 5]], [6, 7]) == 6 * 7 * 5


@pytest.mark.long
def test_multiplications_are_those_of_the_networks_layers() -> None:
    """Counted from the graphs' run, and from PyTorch's layers as they are called: the same convolutions and products."""
    network = build_network("vit_t").eval()
    counted = 0

    def count(module: nn.Module, given: tuple, output: torch.Tensor) -> None:
        nonlocal counted
        if isinstance(module, nn.Linear):
            counted += node_macs("MatMul", [given[0].shape], output.shape)
        elif isinstance(module, nn.Conv2d):
            counted += node_macs("Conv", [[], module.weight.shape], output.shape)
        elif isinstance(module, WindowAttention):  # two products that have no layer
            windows, pixels_of_one, channels = given[0].shape
            counted += 2 * windows * pixels_of_one**2 * channels

    for module in network.modules():
        module.register_forward_hook(count)
    pixels = np.zeros((1, 3, 1024, 1024), np.float32)
    with torch.inference_mode():
        network.encode(torch.from_numpy(pixels))
    weights = random_weights("vit_t")
    runtime = CountingRuntime("vit_t", weights, threads=1)
    runtime.encode(pixels)
    runtime.calls = [(part, feed) for part, feed in runtime.calls if part == "encoder"]
    assert runtime.macs() == counted
    assert 38e9 < counted < 42e9  # published counts of this network: 39 to 42 thousand million


def test_multiplications_of_sams_decoder() -> None:
    """By hand: two transposed convolutions, a projection, and six products of 56 folded tokens with 64 x 64 cells."""
    cells, channels, folded = 64 * 64, 256, 7 * 8
    large = cells * channels * 64 * 4 + 4 * cells * 64 * 32 * 4 + cells * channels * 128
    large += 6 * folded * cells * channels
    runtime = CountingRuntime("vit_t", random_weights("vit_t"), threads=1)
    arrays = {
        "image_embedding": np.zeros((1, channels, 64, 64), np.float32),
    }
    arrays |= runtime._run("prepare", arrays)
    runtime.macs()
    runtime.decode(arrays, POINT, MULTIMASK)
    counted = runtime.macs()
    assert (
        large < counted < 1.06 * large
    )  # the rest are the tokens' own layers and the first look at the image


def test_random_weights_have_a_networks_shapes_and_say_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOBILESAM_HOME", str(tmp_path))
    system = open_system("mobile_sam")
    assert system.kind == RANDOM
    assert system.parameters == 10_130_092
    assert {name: one.shape for name, one in system.weights.items()} == graph_index("vit_t").tensors
    assert open_system("pocket").kind == "published"
    for name in OURS:
        assert entry_of(name).network
    with pytest.raises(ConfigError, match="is not a promptable model"):
        open_system("detector_nano")


def test_a_system_is_measured_in_turns_with_the_reference(photo: Path, peers: Path, tmp_path: Path) -> None:
    candidates = [*(peer(name, peers) for name in ("fine", "broken", "dead")), Candidate("pocket", "pocket")]
    phases = [name for name in PHASES if name not in ("everything", "decoder, 64 prompts")]
    rows = list(measure_each(candidates, photo, SHORT, phases))
    fine, broken, dead, pocket = rows
    assert pocket.facts["parameters"] == 5_112_688
    assert set(pocket.phases) == set(phases) - {"one pass"}
    assert set(pocket.ratios) == {"encoder"}
    assert pocket.ratios["encoder"] > 1
    assert pocket.facts["macs"]["encoder"] > pocket.facts["macs"]["decoder"] > 0
    assert pocket.peak_bytes
    assert pocket.peak_bytes > 50e6
    assert pocket.cold_start > 0 < pocket.first_call
    assert fine.phases["one pass"].to_dict()["n"] == SHORT.runs
    assert broken.problem == "RuntimeError: no such network"
    assert dead.problem == "the process ended: out of luck"
    benchmark = Benchmark(rows, SHORT, "cat.png, 160 x 120", 0.5, others=True)
    paths = benchmark.write(tmp_path / "out")
    content = json.loads(paths[0].read_text())
    assert content["beside_other_work"] is True
    assert content["allocator"]
    assert content["rows"][1] == {"label": "broken", "problem": broken.problem}
    text = paths[1].read_text()
    assert "**Beside other work**" in text
    assert "- broken: RuntimeError: no such network" in text
    assert "| YOLO11n-seg | 5.9 | 2.9 | 30.1 | 1.2 | not measured | - | - | - |" in text
    with Image.open(paths[2]) as picture:
        assert picture.height > 100


def test_a_system_that_takes_too_long_is_given_up(photo: Path, peers: Path) -> None:
    late = peer("late", peers)
    with (
        pytest.raises(DeadlineError, match="no answer within 2 s"),
        Worker(late.command, threads=1, seconds=2, environment=late.environment) as worker,
    ):
        worker.ask(do="load", system="late", photo=str(photo), threads=1)


def test_a_reference_that_fails_ends_the_benchmark(photo: Path, peers: Path) -> None:
    with pytest.raises(ConfigError, match="it is the reference for all"):
        list(measure_each([peer("broken", peers)], photo, SHORT, ["one pass"]))


def test_figures_of_runs() -> None:
    told = Timing([0.010, 0.020, 0.030, 0.040, 0.100], [0.01] * 5).to_dict()
    assert told == {
        "n": 5,
        "median_ms": 30.0,
        "p90_ms": 76.0,
        "least_ms": 10.0,
        "most_ms": 100.0,
        "processor_ms": 10.0,
    }
    for wrong in ({"runs": 0}, {"threads": 0}, {"warm_up": -1}, {"seconds": 0.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            BenchmarkOptions(**wrong)


def test_published_tables_have_every_system_of_theirs() -> None:
    text = "\n".join(published_tables([]))
    for name in (
        "SAM-b",
        "SAM2-b",
        "SAM2-t",
        "MobileSAM",
        "FastSAM-s",
        "YOLOv8n-seg",
        "YOLO11n-seg",
        "SAM ViT-H",
    ):
        assert f"| {name} |" in text


def test_the_repositorys_peers_are_well_formed() -> None:
    kinds = read_peers(ROOT / "bench" / "peers")
    labels = [label for kind in kinds for label in kind.systems.values()]
    assert len(labels) == len(set(labels)) == 8
    assert [kind.name for kind in kinds if kind.licence == "AGPL-3.0"] == ["ultralytics"]
    text = "\n".join(published_tables([]))
    assert text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("packages = 3", "lacks worker, licence, systems"),
        ('packages = ["a"]\nworker = "gone.py"\nlicence = "MIT"\n[systems]\na = "b"', "gone.py is not there"),
        (
            'packages = ["a"]\nworker = "peer.py"\nlicence = "MIT"\n[systems]',
            "must have a label for each name",
        ),
        ("[[", "is not TOML"),
    ],
)
def test_files_of_peers_that_are_none(peers: Path, text: str, message: str) -> None:
    (peers / "own.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_peers(peers)


def test_an_environment_that_cannot_be_made_says_why(
    peers: Path, tmp_path: Path, photo: Path, capsys: pytest.CaptureFixture
) -> None:
    home = tmp_path / "home"
    home.write_text("a file, where folders are wanted")
    command = ["bench", str(photo), "--systems", "pocket", "--peers", str(peers), "--environments", str(home)]
    assert run([*command, "--phases", "pre-processing", "--runs", "1", "--no-macs", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["label"] for row in told["rows"]] == ["pocket", "a peer", "a broken one"]
    assert all("its environment could not be made: " in row["problem"] for row in told["rows"][1:])


@pytest.mark.long
def test_an_environment_is_made_for_a_peer_and_used(peers: Path, tmp_path: Path, photo: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with ZipFile(wheels / "tiny_peer-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_peer.py", "WORDS = 'installed'\n")
        wheel.writestr(
            "tiny_peer-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-peer\nVersion: 1.0\n"
        )
        wheel.writestr(
            "tiny_peer-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("tiny_peer-1.0.dist-info/RECORD", "")
    worker = PEER.replace("def load(asked):", "import tiny_peer\ndef load(asked):")
    worker = worker.replace('size = told.image_at(asked["photo"]).size', "size = 1000")
    (peers / "peer.py").write_text(worker)
    packages = ["--no-index", "--find-links", str(wheels), "tiny-peer"]
    (peers / "own.toml").write_text(
        f'packages = {json.dumps(packages)}\nlicence = "MIT"\nworker = "peer.py"\n[systems]\nfine = "a peer"\n'
    )
    (kind,) = read_peers(peers)
    home = tmp_path / "home"
    assert make_environment(kind, home) == make_environment(kind, home) == ""
    (row,) = measure_each(kind.candidates(home), photo, SHORT, ["one pass"])
    assert row.problem == ""
    assert row.phases["one pass"].to_dict()["n"] == SHORT.runs


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--systems", "detector_nano", "is not a promptable model"),
        ("--systems", "nothing", "nothing"),
        ("--phases", "warming", "--phases: 'warming' is unknown; choose from pre-processing; encoder"),
        ("--only", "nobody", "--only: nobody is not there; choose from own"),
    ],
)
def test_options_that_are_none(
    photo: Path, peers: Path, capsys: pytest.CaptureFixture, option: str, value: str, message: str
) -> None:
    assert run(["bench", str(photo), "--peers", str(peers), option, value]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--only", "--environments"])
def test_options_of_peers_without_peers(photo: Path, capsys: pytest.CaptureFixture, option: str) -> None:
    assert run(["bench", str(photo), option, "own"]) == 2
    assert f"{option}: is for --peers" in capsys.readouterr().err
