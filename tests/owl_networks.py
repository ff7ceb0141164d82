"""Tiny OWL-ViT and OWLv2 networks with random weights, exported as Hugging Face's tools lay them out.

What they find means nothing: they prove the arithmetic around a network.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SIDE, PATCH, TOKENS = 96, 16, 16
START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = ("cat", "dog", "leash", "cup")
SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # CLIP's


@dataclass(frozen=True)
class TinyOwl:
    """A folder for ``load_text_model``, and what made it.

    Attributes:
        folder: with the network, ``tokenizer.json`` and ``preprocessor_config.json``.
        network: in PyTorch.
        family: transformers' word for the kind.
        images: transformers' preparation of images.
        tokenizer: transformers' own.
    """

    folder: Path
    network: nn.Module
    family: str
    images: Any
    tokenizer: Any

    @property
    def processor(self) -> Any:
        """Transformers' own; from version 5.23 on it takes a tokenizer that is not CLIP's."""
        import transformers

        return getattr(transformers, f"{self.family}Processor")(self.images, self.tokenizer)


def write_tokenizer() -> Any:
    """Make a tokenizer of CLIP's kind that knows a few words; of others it sees the bytes."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = sorted(pre_tokenizers.ByteLevel.alphabet(), key=lambda letter: (letter != "!", letter))
    names = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges = []
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            if (parts[0], parts[1]) not in merges:
                merges.append((parts[0], parts[1]))
                names.append(parts[0] + parts[1])
            parts[:2] = [parts[0] + parts[1]]
    names += [START, END]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    rules = Tokenizer(models.BPE(numbers, merges, unk_token=END, end_of_word_suffix="</w>"))
    rules.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="removed", invert=True)
    rules.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    ends = ((END, numbers[END]), (START, numbers[START]))
    rules.post_processor = processors.RobertaProcessing(*ends, trim_offsets=False, add_prefix_space=False)
    return rules


class Outputs(nn.Module):
    """The network with the two outputs that an exported file has first."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, input_ids: Tensor, pixel_values: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        found = self.network(input_ids=input_ids, pixel_values=pixel_values, attention_mask=attention_mask)
        return found.logits, found.pred_boxes


def make_owl(kind: str, folder: Path) -> TinyOwl:
    """Make an ``owlvit`` or ``owlv2`` and write its folder."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import transformers
    from transformers import PreTrainedTokenizerFast

    family = {"owlvit": "OwlViT", "owlv2": "Owlv2"}[kind]
    rules = write_tokenizer()
    size = rules.get_vocab_size()
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = getattr(transformers, f"{family}Config")(
        text_config={
            **tower,
            "vocab_size": size,
            "max_position_embeddings": TOKENS,
            "bos_token_id": size - 2,
            "eos_token_id": size - 1,
        },
        vision_config={**tower, "image_size": SIDE, "patch_size": PATCH},
        projection_dim=32,
    )
    torch.manual_seed(0)
    network = getattr(transformers, f"{family}ForObjectDetection")(config).eval()
    with torch.no_grad():  # fresh weights see little of an image, and their heads are far too sure
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(0.25 if "_head." in name else 4.0 if "embedding" in name else 1.0)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=rules, bos_token=START, eos_token=END, pad_token="!", model_max_length=TOKENS
    )
    # In version 5 the processor that resizes by Pillow has a name of its own.
    by_pillow = f"{family}ImageProcessorPil"
    by_pillow = by_pillow if hasattr(transformers, by_pillow) else f"{family}ImageProcessor"
    images = getattr(transformers, by_pillow)(size={"height": SIDE, "width": SIDE})
    tokenizer.save_pretrained(folder)
    images.save_pretrained(folder)
    (folder / "onnx").mkdir(parents=True)
    export(network, folder / "onnx" / "model.onnx")
    return TinyOwl(folder, network, family, images, tokenizer)


def export(network: nn.Module, path: Path) -> None:
    """Write the network as one ONNX file for any number of texts."""
    ids = torch.full((3, TOKENS), 7)
    pixels = torch.zeros(1, 3, SIDE, SIDE)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Outputs(network),
            (ids, pixels, torch.ones_like(ids)),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["input_ids", "pixel_values", "attention_mask"],
            output_names=["logits", "pred_boxes"],
            dynamic_axes={"input_ids": {0: "texts"}, "attention_mask": {0: "texts"}, "logits": {2: "texts"}},
        )
