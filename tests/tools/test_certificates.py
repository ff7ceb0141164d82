"""The page of certificates is what the certificates say, and all of them are of this project's targets."""

from __future__ import annotations

import json

from mobilesam.export.targets import TARGETS
from tools import certificates


def test_the_page_is_up_to_date() -> None:
    assert certificates.PAGE.read_text() == certificates.page()


def test_pocket_has_one_for_each_target_and_none_failed() -> None:
    found = [json.loads(path.read_text()) for path in certificates.FOLDER.glob("*.json")]
    assert {one["target"] for one in found if one["network"] == "pocket"} == set(TARGETS)
    for one in found:
        assert one["result"] == ("verified" if TARGETS[one["target"]].runs else "converted, not run")
        least = 200 if one["network"] == "pocket" else 54  # each kind of prompt on each image
        assert not TARGETS[one["target"]].runs or one["prompts"] >= least
