"""A network in steps of fixed shapes, for runtimes that know no others: one image, one prompt, so many slots.

A prompt's points, corners and pads lie in the first slots, the others are labelled :data:`NO_SLOT` and nobody reads
them: the masks are those of the prompt alone. A mask prompt is always there, and ``has_mask_input`` tells whether it
is meant. All masks come at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mobilesam.core.arrays import sum_of_tensors
from mobilesam.core.machine import versions
from mobilesam.core.prompts import LOW_RES_PER_GRID, PAD
from mobilesam.core.version import __version__
from mobilesam.core.views import WHOLE
from mobilesam.export.targets import TARGETS
from mobilesam.networks.build import build_network
from mobilesam.networks.checkpoints import load_tensors
from mobilesam.networks.mask_decoder import MaskDecoder
from mobilesam.networks.pocket_decoder import PocketDecoder, end_at_box
from mobilesam.networks.sam import Sam
from mobilesam.runtimes.base import Weights
from mobilesam.runtimes.fixed import DECODED, DECODER, NO_SLOT, SLOTS, WINDOW_DECODER, fixed_views
from mobilesam.runtimes.fixed_files import FixedFiles, Part, index_name
from mobilesam.storage.atomic import refuse_existing, write_bytes

ALL_TOKENS = slice(None)


@dataclass(frozen=True)
class Step:
    """One step, as a module from tensors to tensors, with an example of each.

    Attributes:
        module: the step.
        inputs: by their names.
        outputs: their names.
    """

    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]

    @property
    def example(self) -> tuple[Tensor, ...]:
        """The inputs in their order."""
        return tuple(self.inputs.values())


class FixedEncode(nn.Module):
    """``encoder``: a square of pixels -> the embedding's arrays."""

    def __init__(self, network: Sam) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network.encode(pixels, of_full_size=True).values())


class FixedPropose(nn.Module):
    """``proposals``: some of the arrays -> boxes and their objectness."""

    def __init__(self, network: Sam, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network = network
        self.names = names

    def forward(self, *arrays: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.propose(dict(zip(self.names, arrays, strict=True)))


class FixedDecode(nn.Module):
    """``decoder`` and ``decoder_window``: arrays and one prompt in so many slots -> all masks and their IoU.

    Args:
        network: the network.
        arrays: that are decoded, by their names: of a square.
    """

    def __init__(self, network: Sam, arrays: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.network = network
        self.names = tuple(arrays)
        self.side = arrays["image_embedding"].shape[-1]  # in cells

    @property
    def decoder(self) -> PocketDecoder | MaskDecoder:
        """The network's decoder, of which there are two kinds."""
        decoder = self.network.mask_decoder
        assert isinstance(decoder, PocketDecoder | MaskDecoder)
        return decoder

    @property
    def pixels(self) -> int:
        """Side of the square in the pixels of prompts."""
        spec = self.network.spec
        return self.side * spec.stride * spec.prompt_size // spec.image_size

    def forward(
        self,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        *arrays: Tensor,
    ) -> tuple[Tensor, Tensor]:
        asked = self.ask(point_coords, point_labels, mask_input, has_mask_input)
        return self.finish(*self.draw(*asked, *arrays), point_coords, point_labels)

    def ask(
        self, point_coords: Tensor, point_labels: Tensor, mask_input: Tensor, has_mask_input: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the prompt as tokens (1, T, C), which of these are absent (1, 1, 1, T), and dense (1, D, h, w)."""
        encoder, grid = self.network.prompt_encoder, (self.side, self.side)
        empty = point_labels == NO_SLOT
        labels = torch.where(empty, float(PAD), point_labels)
        sparse, dense = encoder.embed(
            point_coords, labels, None, image_size=(self.pixels, self.pixels), grid_size=grid, side=self.side
        )
        drawn = encoder.embed_mask(self.network.mask_to_grid(mask_input, grid))
        tokens = self.decoder.ask(sparse)
        of_network = tokens.new_zeros(1, tokens.shape[1] - labels.shape[1])
        absent = torch.cat([of_network, empty.to(tokens.dtype)], 1)[:, None, None]
        return tokens, absent, dense + has_mask_input * (drawn - encoder.no_mask())

    def draw(self, tokens: Tensor, absent: Tensor, dense: Tensor, *arrays: Tensor) -> tuple[Tensor, Tensor]:
        """Return masks, SAM's cell by cell, and their IoU as far as it can be told without looking at them."""
        decoder, embedding = self.decoder, dict(zip(self.names, arrays, strict=True))
        image_pe = self.network.image_pe((self.side, self.side))
        if isinstance(decoder, PocketDecoder):
            coarse = embedding["coarse_embedding"] + decoder.coarse_prompt(dense)
            tokens, coarse = decoder.join(tokens, coarse, image_pe, fold=True, absent=absent)
            return decoder.draw(embedding, tokens, coarse, dense, ALL_TOKENS), decoder.expect(tokens)
        image = embedding["image_embedding"] + dense
        tokens, read = decoder.transformer.join(image, image_pe, tokens, fold=True, absent=absent)
        return decoder.draw(tokens, read, ALL_TOKENS), decoder.expect(tokens)

    def finish(
        self, masks: Tensor, ious: Tensor, point_coords: Tensor, point_labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return low-resolution masks and predicted IoUs, after a look at the masks where the decoder has one."""
        decoder = self.decoder
        if not isinstance(decoder, PocketDecoder):
            return scatter_in_six(masks, self.side), ious
        ious = decoder.evidence(ious, masks, ALL_TOKENS)
        return end_at_box(masks, (point_coords + 0.5) / self.pixels, point_labels), ious


def scatter_in_six(masks: Tensor, side: int) -> Tensor:
    """:func:`mobilesam.networks.mask_decoder.scatter` of a square with no more than six dimensions: XNNPACK's most.

    Args:
        masks: (1, M, side * side * 4 * 4), two by two in each cell.
        side: of the square, in cells.
    """
    cells = masks.reshape(-1, side, 2, 2, 2, 2)  # (M * side, side, ...): a row of cells each
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(1, -1, 4 * side, 4 * side)


def fixed_steps(network: Sam) -> dict[str, Step]:
    """Return the steps of a network by their names, in the order in which they are run."""
    side = network.spec.image_size
    pixels = torch.zeros(1, 3, side, side)
    with torch.no_grad():
        embedding = network.encode(pixels)
    steps = {"encoder": Step(FixedEncode(network), {"pixels": pixels}, tuple(embedding))}
    if network.proposal_head is not None:
        names = tuple(network.proposal_head.inputs)
        maps = {name: embedding[name].contiguous() for name in names}
        steps["proposals"] = Step(FixedPropose(network, names), maps, ("boxes", "objectness"))
    views = fixed_views(network.spec)
    if views is None:
        # ExecuTorch's files want the strides of their example: an encoder may give channels last.
        steps[DECODER] = _decoder(network, {"image_embedding": embedding["image_embedding"].contiguous()})
        return steps
    read = (*network.mask_decoder.PER_PROMPT, *network.mask_decoder.PER_IMAGE)
    for part, window in ((DECODER, WHOLE), (WINDOW_DECODER, (0, 0, views.size, views.size))):
        shown = views.arrays(embedding, window)
        steps[part] = _decoder(network, {name: shown[name].contiguous() for name in read})
    return steps


def _decoder(network: Sam, arrays: dict[str, Tensor]) -> Step:
    h = max(array.shape[-1] for array in arrays.values())
    low_res = h if network.views is not None else LOW_RES_PER_GRID * h
    prompt = {
        "point_coords": torch.full((1, SLOTS, 2), 0.3 * network.spec.prompt_size),
        "point_labels": torch.tensor([[1.0, PAD, *[NO_SLOT] * (SLOTS - 2)]]),
        "mask_input": torch.zeros(1, 1, low_res, low_res),
        "has_mask_input": torch.zeros(1),
    }
    return Step(FixedDecode(network, arrays), prompt | arrays, DECODED)


class Named(nn.Module):
    """A step whose inputs and outputs are told by their names."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.module = step.module
        self.outputs = step.outputs

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.outputs, self.module(*inputs.values()), strict=True))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what converters say of their progress, and of other packages, from the user."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


Convert = Callable[[Step, Path, str], None]  # into files of a folder whose names begin so


def write_fixed(
    target: str,
    name: str,
    weights: Weights,
    folder: Path,
    convert: Convert,
    *,
    steps: Callable[[Sam], dict[str, Step]] = fixed_steps,
    overwrite: bool = False,
) -> list[Path]:
    """Write each step of a network as a target has it, and a JSON file that says what they are; return the paths.

    Args:
        target: its name.
        name: of the network.
        weights: its tensors.
        folder: where the files go.
        convert: a step to its files.
        steps: of the network, if they are not :func:`fixed_steps`.
        overwrite: replace files that are there.

    Raises:
        WeightsError: if these are not the network's tensors.
        OutputError: if a file cannot be written, or one exists and ``overwrite`` is false.
    """
    index = folder / index_name(name, target)
    refuse_existing(index, overwrite=overwrite)
    network = load_tensors(build_network(name), weights, "weights").requires_grad_(False)
    parts, paths = {}, []
    for part, step in steps(network).items():
        with tempfile.TemporaryDirectory() as temporary:
            with quiet():
                convert(step, Path(temporary), f"{name}-{part}")
            made = {
                path.relative_to(temporary).as_posix(): path.read_bytes()
                for path in sorted(Path(temporary).rglob("*"))
                if path.is_file()
            }
        for file, data in made.items():
            paths.append(folder / file)
            write_bytes(paths[-1], data, overwrite=overwrite)
        with torch.no_grad():
            given = step.module(*step.example)
        parts[part] = Part(
            {file: hashlib.sha256(data).hexdigest() for file, data in made.items()},
            {key: list(tensor.shape) for key, tensor in step.inputs.items()},
            {key: list(tensor.shape) for key, tensor in zip(step.outputs, given, strict=True)},
        )
    made_by = {"mobilesam": __version__, **versions(("torch", *TARGETS[target].packages))}
    write_bytes(
        index,
        FixedFiles(target, name, sum_of_tensors(weights), made_by, parts).to_json(),
        overwrite=overwrite,
    )
    return [*paths, index]
