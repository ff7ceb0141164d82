"""The server on a real Ray cluster of this machine, in a network of its own."""

from __future__ import annotations

import importlib.util
import json
import subprocess

import pytest

from mobilesam.cli.main import run
from mobilesam.core.extras import install_line
from tests.annotate.test_ray import ROOT, alone, why_not


def why_not_here() -> str:
    if not why_not() and importlib.util.find_spec("mmh3") is None:
        return "Ray Serve is not installed: pip install 'mobilesam[serve-ray]'"
    return why_not()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--engine", "threads"], "choose one of local, ray"),
        (["--workers", "2"], "--workers: is of a Ray cluster; give --engine ray as well"),
        (["--address", "127.0.0.1:1"], "--address: is of a Ray cluster; give --engine ray as well"),
    ],
)
def test_options_of_a_cluster_go_together(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", "--port", "0", *arguments]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_the_extra_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--port", "0", "--engine", "ray"]) != 0
    assert install_line("serve-ray") in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.skipif(bool(why_not_here()), reason=why_not_here())
def test_a_process_dies_under_load_and_no_answer_is_wrong() -> None:
    done = subprocess.run(alone("tests.server.cluster_run"), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    facts = json.loads(done.stdout.splitlines()[-1])
    print(facts)
    assert set(facts["before"]) == {"200"}
    assert facts["processes"] == [2, 2, False]  # another has taken its place
    seen = facts["seen"]
    assert "wrong" not in seen and set(seen) <= {
        "200",
        "404",
        "410",
        "429",
        "503",
        "sent again 200",
        "sent again 201",
        "sent again 503",
    }
    assert seen["sent again 201"] >= 1 and seen["200"] > facts["before"]["200"]
    assert facts["evil host"] == 421 and facts["unknown id"] == 404
    assert facts["everything ends with"] == ["done"]
