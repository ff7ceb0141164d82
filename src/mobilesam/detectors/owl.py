"""OWL-ViT and OWLv2 as ONNX files: the boxes of what texts name.

The networks are not part of the package. They are used as Hugging Face's tools export them: a
folder with the network, how images are prepared for it, and how texts are split.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mobilesam.core.errors import ConfigError, WeightsError, missing_extra
from mobilesam.core.text import printable
from mobilesam.core.types import Embedding
from mobilesam.detectors.base import Boxes
from mobilesam.detectors.onnx_layouts import middles_to_corners
from mobilesam.detectors.owl_inputs import (
    PREPARATION_FILE,
    SHOWN,
    TOKENIZER_FILE,
    TOKENS,
    Preparation,
    Tokenizer,
    Tokens,
    read_preparation,
)
from mobilesam.runtimes.base import SECONDS
from mobilesam.runtimes.onnx_file import OnnxFile, open_onnx_file
from mobilesam.weights import how_to_get_text_model, text_model_folder

NETWORK_FILES = (  # the first one found is used
    "onnx/model.onnx",
    "model.onnx",
    "onnx/model_quantized.onnx",
    "model_quantized.onnx",
)
TYPES = {"input_ids": "tensor(int64)", "attention_mask": "tensor(int64)", "pixel_values": "tensor(float)"}
OUTPUTS = ("logits", "pred_boxes")
BOX_VALUES = 4


class OwlDetector:
    """Finds what texts name, by OWL-ViT or OWLv2; see :func:`open_owl`.

    Args:
        file: the network.
        preparation: of images.
        tokenizer: of texts.
    """

    def __init__(self, file: OnnxFile, preparation: Preparation, tokenizer: Tokenizer) -> None:
        self.file = file
        self.preparation = preparation
        self.tokenizer = tokenizer

    def find(self, embedding: Embedding, texts: Sequence[str] = ()) -> Boxes:
        """Return every box that the network looks at, each with the text that fits best.

        Args:
            embedding: of the image.
            texts: phrases that name objects; at least one.

        Returns:
            Boxes, which may reach outside the image, with how well their text fits.

        Raises:
            DeadlineError: if it takes longer than the file's seconds.
            WeightsError: if the network fails, or answers in another form.
        """
        image = embedding.image
        tokens = [self.tokenizer(text) for text in texts]
        feed = {
            "input_ids": np.stack([one.ids for one in tokens]),
            "attention_mask": np.stack([one.mask for one in tokens]),
            "pixel_values": self.preparation.pixels(image),
        }
        answer = self.file.run({name: feed[name] for name in self.file.inputs})
        logits, boxes = (answer[name] for name in OUTPUTS)
        if logits.shape != (1, len(boxes[0]), len(texts)) or boxes.shape != (1, len(boxes[0]), BOX_VALUES):
            raise WeightsError(
                f"{self.file.path}: answers {len(texts)} texts with logits {logits.shape} and boxes "
                f"{boxes.shape}; wanted (1, N, {len(texts)}) and (1, N, {BOX_VALUES})"
            )
        height, width = self.preparation.shown_size(image.shape[:2])
        corners = middles_to_corners(boxes[0].astype(np.float64)) * [width, height, width, height]
        return Boxes(corners, _sigmoid(logits[0].max(1)), logits[0].argmax(1), tuple(self.remarks(texts)))

    def remarks(self, texts: Sequence[str]) -> list[str]:
        """Return which parts of texts are not read, or may not be understood."""
        remarks = []
        for i, text in enumerate(texts):
            tokens = self.tokenizer(text)
            if tokens.read is not None:
                remarks.append(f"texts[{i}]: {_too_long(tokens, self.tokenizer.length)}")
            if any(character.isalpha() and not character.isascii() for character in text):
                remarks.append(
                    f"texts[{i}]: holds letters that English does not have; OWL-ViT and OWLv2 know only English"
                )
        return remarks


def _too_long(tokens: Tokens, length: int) -> str:
    assert tokens.read is not None
    read = printable(tokens.read)
    read = f"...{read[-SHOWN:]}" if len(read) > SHOWN else read
    return f"is longer than the {length} tokens that the text model reads; what follows '{read}' is left out"


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0.0, -logits.astype(np.float64)))


def open_owl(
    folder: str | Path | None = None, *, threads: int | None = None, seconds: float = SECONDS
) -> OwlDetector:
    """Open a folder with OWL-ViT or OWLv2 as Hugging Face's tools export them.

    Args:
        folder: with ``tokenizer.json``, ``preprocessor_config.json``, and ``onnx/model.onnx`` or
            another of ``NETWORK_FILES``; if None, the one that ``docs/how-to/text.md`` names.
        threads: processor threads; ``OMP_NUM_THREADS`` or as many as cores if None.
        seconds: limit for a run.

    Raises:
        MissingExtraError: if ``mobilesam[text]`` is not installed.
        WeightsError: if the folder is missing, or a file in it is missing, damaged or another network's.
    """
    try:
        import tokenizers  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "tokenizers":
            raise
        raise missing_extra("text prompts", "text") from error
    if folder is not None and not isinstance(folder, str | Path):
        raise ConfigError(f"text_model: is a {type(folder).__name__}; give a folder")
    folder = text_model_folder() if folder is None else Path(folder)
    network = _network_in(folder)
    preparation, tokenizer = read_preparation(folder / PREPARATION_FILE), Tokenizer(folder / TOKENIZER_FILE)
    file = open_onnx_file(network, threads=threads, seconds=seconds)
    tokenizer.limit(_check_network(file, preparation))
    return OwlDetector(file, preparation, tokenizer)


def _network_in(folder: Path) -> Path:
    """Return the network's file in a folder, or say how to get what is missing."""
    if not os.path.isdir(folder):  # pathlib's would raise for names that are too long
        raise WeightsError(f"text_model: not installed; {how_to_get_text_model(folder)}")
    network = next((folder / name for name in NETWORK_FILES if (folder / name).exists()), None)
    missing = [name for name in (TOKENIZER_FILE, PREPARATION_FILE) if not (folder / name).exists()]
    if network is None or missing:
        missing += [] if network else [NETWORK_FILES[0]]
        raise WeightsError(f"text_model: has no {', '.join(missing)}; {how_to_get_text_model(folder)}")
    return network


def _check_network(file: OnnxFile, preparation: Preparation) -> int:
    """Refuse a network whose inputs or outputs are not OWL-ViT's; return how many tokens of a text it reads."""
    missing = [name for name in OUTPUTS if name not in file.outputs]
    if file.types != TYPES:
        has = ", ".join(f"{printable(name)[:SHOWN]} {kind}" for name, kind in file.types.items())
        wanted = ", ".join(f"{name} {kind}" for name, kind in TYPES.items())
        raise WeightsError(f"{file.path}: has inputs {has[: 3 * SHOWN] or 'none'}; wanted: {wanted}")
    if missing:
        raise WeightsError(f"{file.path}: has no outputs {', '.join(missing)}; give OWL-ViT or OWLv2")
    texts, pixels = file.inputs["input_ids"], file.inputs["pixel_values"]
    sides = (1, 3, *preparation.size)
    if len(pixels) != 4 or any(
        side not in (None, wanted) for side, wanted in zip(pixels, sides, strict=True)
    ):
        raise WeightsError(f"{file.path}: takes images of {pixels}; {PREPARATION_FILE} says {sides}")
    if len(texts) != 2 or texts[0] is not None:
        raise WeightsError(
            f"{file.path}: takes texts of {texts}; wanted any number of them, (None, {TOKENS})"
        )
    return texts[1] or TOKENS
