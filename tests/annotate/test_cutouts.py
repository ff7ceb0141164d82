"""Cut-outs by words: all objects that fit are joined, others are taken away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from skimage import data

from mobilesam import Boxes, Embedding, Model
from mobilesam.annotate.cutouts import Cutting, Wanted
from mobilesam.annotate.sources import Photo, Source
from mobilesam.detectors.head import HeadDetector

PLACES = {"cup": [90.0, 20, 420, 390], "spoon": [350.0, 130, 430, 310]}


class Known:
    """A text model that knows where two things are."""

    def find(self, embedding: Embedding, texts: Sequence[str] = ()) -> Boxes:
        found = [(PLACES[text], i) for i, text in enumerate(texts) if text in PLACES]
        boxes, numbers = [box for box, _ in found], [i for _, i in found]
        return Boxes(np.array(boxes).reshape(-1, 4), np.full(len(found), 0.9), np.array(numbers, int))


@pytest.fixture(scope="module")
def photo() -> Photo:
    return Photo(Source("coffee.png", "coffee", b""), data.coffee())


def cut(pocket: Model, photo: Photo, wanted: Wanted) -> tuple[np.ndarray, list[str]]:
    detector = HeadDetector(pocket.runtime, pocket.name)
    answer = Cutting(pocket.predictor, detector, lambda photo: wanted, text_model=Known()).ask(photo)
    return answer.made.alpha > 127, list(answer.remarks)


def test_words_join_and_take_away(pocket: Model, photo: Photo) -> None:
    cup, _ = cut(pocket, photo, Wanted(texts=("cup",)))
    both, _ = cut(pocket, photo, Wanted(texts=("cup", "spoon")))
    less, _ = cut(pocket, photo, Wanted(texts=("cup",), subtract_texts=("spoon",)))
    assert less.sum() < cup.sum()
    assert both.sum() > less.sum()


def test_words_that_fit_nothing_are_told(pocket: Model, photo: Photo) -> None:
    nothing, remarks = cut(pocket, photo, Wanted(texts=("dog",)))
    assert not nothing.any()
    assert any("nothing was found that fits dog" in remark for remark in remarks)
