"""Closed-form matting by the package that solves it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mobilesam.draw.alpha import soften
from mobilesam.draw.matting import is_compiled, load_matte
from tests.strands import coarse, error, strands


@pytest.mark.long  # the package compiles its parts when it is first imported
def test_a_matte_is_nearer_to_the_truth_than_the_filter() -> None:
    image, truth = strands()
    mask, logits = coarse(truth)
    by_filter = error(soften(image, mask, logits).alpha, truth)
    by_matte = error(soften(image, mask, logits, matte=load_matte()).alpha, truth)
    print(f"error of alpha: filter {by_filter:.0f}, matte {by_matte:.0f}, in whole pixels")
    assert by_matte < 0.8 * by_filter


def test_whether_pymatting_is_compiled_is_seen_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "pymatting"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('was imported')")
    monkeypatch.delitem(sys.modules, "pymatting", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert not is_compiled()
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "boxfilter.calculate-25.py311.nbi").touch()
    assert is_compiled()
