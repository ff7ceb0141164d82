"""Distillation: a student's encoder learns to return what a teacher's returns. ``mobilesam train distill``.

Four modes, named after MobileSAM's section 3 and EdgeSAM: see :class:`~mobilesam.train.distill_recipe.DistillRecipe`.
The student is a whole network with the teacher's prompt encoder and mask decoder, so it is used like any other.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobilesam.core.errors import ConfigError, TrainingWarning
from mobilesam.networks.build import DECODERS, build_network
from mobilesam.networks.checkpoints import load_tensors
from mobilesam.networks.mask_decoder import MaskDecoder
from mobilesam.networks.sam import Sam
from mobilesam.train.data import Drawn
from mobilesam.train.distill_data import TAUGHT, DistillSamples, split_photos
from mobilesam.train.distill_recipe import DistillRecipe, DistillStage
from mobilesam.train.loop import Report, Task, channels_last, mixed_precision, no_report, train
from mobilesam.train.losses import mask_ious, mask_losses
from mobilesam.train.masks import for_prompts, side_shown
from mobilesam.train.options import RunOptions
from mobilesam.train.prompts import corrective_click
from mobilesam.train.start import read_start
from mobilesam.train.teacher import Teacher, arrays_read, read_facts, read_store_decoder
from mobilesam.weights.graph_index import network_specs

SINGLE = (0,)  # the mask token that students learn
HELD_OUT_BATCHES = 6
SCORED_OBJECTS = 4  # prompts per photo
IGNORED = (
    0.5  # of the way from the teacher's overlap of masks of different prompts to that of one and the same
)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

Arrays = Mapping[str, Tensor]


def train_distill(
    recipe: DistillRecipe,
    data: Path,
    out: Path,
    options: RunOptions | None = None,
    report: Report = no_report,
) -> Path:
    """Distil a student by ``recipe``, or resume; see :func:`mobilesam.train.loop.train`.

    Raises:
        ConfigError: also if the store is missing, or its teacher does not fit the student's decoder.
        WeightsError: if the store is damaged or incomplete.

    Warns:
        TrainingWarning: if the student's masks depend much less on their prompts than the teacher's do.
    """
    task = replace(
        DISTILL,
        samples=partial(DistillSamples, data=data),
        score=partial(score_held_out, data=data),
    )
    return train(task, recipe, data, out, options, report)


class Kept:
    """Something that a module holds, but that is neither in its state nor copied with it.

    Args:
        value: the thing that is kept.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def __deepcopy__(self, memo: object) -> Kept:
        return self


class Student(nn.Module):
    """A student with its teacher, and with what brings its arrays into the teacher's shapes.

    Args:
        sam: the student.
        projections: 1 x 1 convolutions by the name of the teacher's array, where shapes differ.
        teacher: whose masks it learns and, without a store, whose arrays.
    """

    def __init__(self, sam: Sam, projections: Mapping[str, nn.Module], teacher: TeacherPart) -> None:
        super().__init__()
        self.sam = sam
        self.projections = nn.ModuleDict(dict(projections))
        self.kept = Kept(teacher)

    @property
    def teacher(self) -> TeacherPart:
        """See the class."""
        return self.kept.value

    def project(self, arrays: Arrays, name: str, like: Tensor) -> Tensor:
        """Return the student's counterpart of a teacher's array, in its shape (B, C, h, w)."""
        array = arrays[name if name in arrays else "image_embedding"]
        if name in self.projections:
            array = self.projections[name](array.float())  # a student may have been run in bfloat16
        if array.shape[-2:] != like.shape[-2:]:
            array = F.interpolate(array, size=like.shape[-2:], mode="bilinear", align_corners=False)
        return array


@dataclass
class TeacherPart:
    """As much of a teacher as a run has.

    Attributes:
        decoder: a network with its prompt encoder and mask decoder, whose image encoder is empty.
        channels: channels of each array that it returns, by name.
        image_size: side of the input that its arrays belong to; 0 for the student's.
        whole: the teacher itself, where there is no store.
    """

    decoder: Sam
    channels: dict[str, int]
    image_size: int
    whole: Teacher | None = None


class NoEncoder(nn.Module):
    """Stands in where no image encoder is needed."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride


def start_student(recipe: DistillRecipe, data: Path) -> Student:
    """Build the student with its starting weights, and what is needed of its teacher."""
    teacher = open_teacher(recipe, data)
    sam = build_network(recipe.network)
    own = network_specs()[recipe.network].decoder == teacher.decoder.spec.decoder
    given: dict[str, np.ndarray] = dict(read_start(recipe.start, data)) if recipe.start else {}
    if own:  # the student is used with the teacher's prompt encoder and decoder
        given |= {n: t.numpy() for n, t in decoder_state(teacher.decoder).items()}
    elif recipe.compares_masks and recipe.targets == "teacher" and not recipe.start:
        warnings.warn(
            f"{recipe.network} has a different decoder from its teacher's, which it learns from random weights",
            TrainingWarning,
            stacklevel=2,
        )
    take_matching(sam, given)
    for name, parameter in sam.named_parameters():
        encoder = name.startswith("image_encoder.")
        decoder = recipe.mode in ("coupled", "prompt-in-the-loop") and name.startswith("mask_decoder.")
        parameter.requires_grad_(encoder or decoder)
    sam = synchronised(sam, recipe)
    shapes = channels_of(sam)
    projections = {
        name: nn.Conv2d(shapes.get(name, shapes["image_embedding"]), channels, 1)
        for name, channels in teacher.channels.items()
        if shapes.get(name) != channels
    }
    return Student(sam, projections, teacher)


def synchronised(sam: Sam, recipe: DistillRecipe) -> Sam:
    """Make batch normalisation that learns agree among several processes.

    Raises:
        ConfigError: on processors, where PyTorch cannot do that.
    """
    if recipe.batch_norm == "frozen" or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return sam
    if not torch.cuda.is_available():
        raise ConfigError(
            'batch_norm: is "trained"; several processes cannot agree on its statistics without a GPU; '
            'write "frozen", or use one process'
        )
    return nn.SyncBatchNorm.convert_sync_batchnorm(sam)


def open_teacher(recipe: DistillRecipe, data: Path) -> TeacherPart:
    """Return what the recipe needs of the teacher: with a store, only its decoder."""
    if recipe.store:
        facts = read_facts(data / recipe.store)
        decoder = decoder_network(facts.network)
        load_tensors(decoder, read_store_decoder(data / recipe.store), f"{recipe.store}, the recipe's store,")
        channels = {name: shape[0] for name, shape in facts.arrays.items()}
        return TeacherPart(decoder.requires_grad_(False), channels, facts.image_size)
    is_file = (data / recipe.teacher).is_file()
    whole = (
        Teacher.from_file(data / recipe.teacher) if is_file else Teacher.load(recipe.teacher, device="cpu")
    )
    network = whole.network
    decoder = decoder_network(network.spec.name)
    decoder.load_state_dict(decoder_state(network))
    size = recipe.teacher_size or (network.spec.image_size if network.spec.fixed_size else 0)
    return TeacherPart(decoder.requires_grad_(False), channels_of(network), size, whole)


def decoder_network(network: str) -> Sam:
    """Return a network with an empty image encoder, in eval mode."""
    spec = network_specs()[network]
    prompt_encoder, mask_decoder = DECODERS[spec.decoder]()
    return Sam(NoEncoder(spec.stride), prompt_encoder, mask_decoder, spec=spec).eval()


def decoder_state(network: Sam) -> dict[str, Tensor]:
    """Return the tensors of a network's prompt encoder and mask decoder."""
    return {
        name: tensor
        for name, tensor in network.state_dict().items()
        if name.startswith(("prompt_encoder.", "mask_decoder."))
    }


@torch.no_grad()
def channels_of(network: Sam) -> dict[str, int]:
    """Return the channels of the arrays that a network's decoder reads."""
    spec = network.spec
    side = spec.image_size if spec.fixed_size else 64
    device = next(network.parameters()).device
    seen = network.see(torch.zeros(1, 3, side, side, device=device))
    return {name: seen[name].shape[1] for name in arrays_read(network)}


def take_matching(sam: Sam, given: Mapping[str, np.ndarray]) -> None:
    """Load into a network those tensors whose names and shapes it has."""
    state = sam.state_dict()
    state |= {
        name: torch.from_numpy(np.array(tensor))
        for name, tensor in given.items()
        if name in state and tuple(state[name].shape) == tuple(tensor.shape)
    }
    sam.load_state_dict(state)


def step_loss(
    student: Student, batch: Arrays, recipe: DistillRecipe, stage: DistillStage, step: int, device: str
) -> Tensor:
    """Return the loss of a step's batch."""
    set_norms(student.sam, recipe.batch_norm == "trained")
    with mixed_precision(device):
        seen = student.sam.see(channels_last(batch["pixels"]))
    taught = taught_arrays(student.teacher, batch, stage, device)
    weight = recipe.embedding if recipe.compares_masks else recipe.embedding or 1.0
    loss = torch.zeros((), device=device)
    if weight:
        loss = loss + weight * embedding_loss(student, seen, taught, batch["shown"], recipe)
    if recipe.compares_masks:
        generator = torch.Generator(device).manual_seed((recipe.seed << 32) + step)
        loss = loss + loop_loss(student, seen, taught, batch, recipe, generator)
    return loss


def set_norms(network: nn.Module, train: bool) -> None:
    """Let batch normalisation use and learn from a batch's statistics, or use those it has."""
    for module in network.modules():
        if isinstance(module, NORMS):
            module.train(train)


def taught_arrays(teacher: TeacherPart, batch: Arrays, stage: DistillStage, device: str) -> dict[str, Tensor]:
    """Return the teacher's arrays of a batch, from the store or from the teacher itself."""
    stored = {name.removeprefix(TAUGHT): array for name, array in batch.items() if name.startswith(TAUGHT)}
    if stored:
        return stored
    assert teacher.whole is not None
    teacher.whole.network.to(device)
    size, pixels = teacher.image_size or stage.image_size, batch["pixels"]
    if size != stage.image_size:
        pixels = F.interpolate(
            pixels, size=(size, size), mode="bilinear", align_corners=False, antialias=True
        )
    with mixed_precision(device):
        return {name: array.float() for name, array in teacher.whole.tensors(pixels).items()}


def embedding_loss(
    student: Student, seen: Arrays, taught: Arrays, shown: Tensor, recipe: DistillRecipe
) -> Tensor:
    """Return the distance of embeddings: the mean over each image's cells, then over the images.

    So ranks with different photos agree with a single one that has them all. Several arrays add up.

    Args:
        student: its projections make the shapes agree.
        seen: its arrays (I, C, h, w).
        taught: the teacher's.
        shown: (I, 2) part of the input's height and width that shows the photo.
        recipe: ``padding`` and ``distance``.
    """
    total = shown.new_zeros(())
    for name, target in taught.items():
        found = student.project(seen, name, target).to(target.dtype)
        each = DISTANCE[recipe.distance](found, target, reduction="none").mean(1)  # (I, h, w)
        if recipe.padding == "keep":
            total = total + each.mean((1, 2)).mean()
        else:
            cells = cells_shown(shown, each.shape[-2:])
            total = total + ((each * cells).sum((1, 2)) / cells.sum((1, 2))).mean()
    return total


DISTANCE: dict[str, Any] = {"mse": F.mse_loss, "l1": F.l1_loss, "huber": F.smooth_l1_loss}


def cells_shown(shown: Tensor, size: torch.Size) -> Tensor:
    """Return 1 for the cells (I, h, w) that show part of the photo, 0 for padding."""
    height, width = size
    rows = torch.arange(height, device=shown.device) < (shown[:, :1] * height - 1e-4)
    columns = torch.arange(width, device=shown.device) < (shown[:, 1:] * width - 1e-4)
    return (rows[:, :, None] & columns[:, None]).to(shown.dtype)


def loop_loss(
    student: Student,
    seen: Arrays,
    taught: Arrays,
    batch: Arrays,
    recipe: DistillRecipe,
    generator: torch.Generator,
) -> Tensor:
    """Return the masks' loss, the mean over the rounds; each but the first follows a click where masks differ."""
    coords, labels = batch["point_coords"], batch["point_labels"]
    device = coords.device.type
    prompts = len(coords)
    teacher = student.teacher.decoder.to(device)
    ours, theirs = for_prompts(student.sam, dict(seen), prompts), for_prompts(teacher, dict(taught), prompts)
    losses = []
    for turn in range(recipe.rounds + 1):
        logits, target = decode_both(student.sam, teacher, ours, theirs, coords, labels)
        truth = (target[:, 0] > 0).float() if recipe.targets == "teacher" else batch["targets"]
        losses.append(compared(logits, target, truth, recipe))
        if recipe.token:
            distance = F.l1_loss(
                tokens_of(student.sam, ours, coords, labels), tokens_of(teacher, theirs, coords, labels)
            )
            losses[-1] = losses[-1] + recipe.token * distance
        if turn < recipe.rounds:
            side = side_shown(student.sam, ours)
            click, label = corrective_click(logits[:, 0].detach(), truth, side, generator)
            coords, labels = torch.cat([click, coords], 1), torch.cat([label, labels], 1)
    return torch.stack(losses).mean()


def decode_both(
    student: Sam, teacher: Sam, ours: Arrays, theirs: Arrays, coords: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the single mask's logits (B, 1, s, s) of student and teacher, both at the student's size."""
    with mixed_precision(coords.device.type):
        logits, _ = student.decode_view(
            ours, in_prompts(student, ours, coords, ours), labels, mask_tokens=SINGLE
        )
        with torch.no_grad():
            moved = in_prompts(teacher, theirs, coords, ours, student)
            target, _ = teacher.decode_view(theirs, moved, labels, mask_tokens=SINGLE)
    target = target.float()
    if target.shape != logits.shape:
        target = F.interpolate(target, size=logits.shape[-2:], mode="bilinear", align_corners=False)
    return logits.float(), target


def in_prompts(
    network: Sam, arrays: Arrays, coords: Tensor, ours: Arrays, student: Sam | None = None
) -> Tensor:
    """Scale coordinates in pixels of the student's input to those of a network's prompts for its arrays."""
    from_side = side_shown(student or network, dict(ours))
    spec = network.spec
    to_side = max(arrays["image_embedding"].shape[-2:]) * (spec.stride * spec.prompt_size // spec.image_size)
    return coords if from_side == to_side else (coords + 0.5) * (to_side / from_side) - 0.5


def compared(logits: Tensor, target: Tensor, truth: Tensor, recipe: DistillRecipe) -> Tensor:
    """Return the masks' loss: the mean over the hardest prompts.

    Args:
        logits: (B, 1, s, s) of the student.
        target: (B, 1, s, s) of the teacher.
        truth: (B, s, s) what the masks should be, 0 to 1.
        recipe: the weights.
    """
    each = logits.new_zeros(len(logits))
    dice = mask_losses(logits, truth, focal=0.0)[:, 0]
    if recipe.bce:
        entropy = F.binary_cross_entropy_with_logits(logits[:, 0], truth, reduction="none")
        each = each + recipe.bce * entropy.mean((1, 2))
    if recipe.focal:
        each = each + recipe.focal * (mask_losses(logits, truth, focal=1.0)[:, 0] - dice)
    if recipe.dice:
        each = each + recipe.dice * dice
    if recipe.output:
        each = each + recipe.output * (logits - target).abs().mean((1, 2, 3))
    count = max(1, round(recipe.hardest * len(each)))
    return each.topk(count).values.mean()


def tokens_of(network: Sam, arrays: Arrays, coords: Tensor, labels: Tensor) -> Tensor:
    """Return the output tokens (B, 5, C) of SAM's decoder: the IoU's, then the masks'."""
    decoder = network.mask_decoder
    assert isinstance(decoder, MaskDecoder)  # checked with the recipe
    image = arrays["image_embedding"]
    h, w = image.shape[-2:]
    side = max(h, w)
    pixels = side * network.spec.stride * network.spec.prompt_size // network.spec.image_size
    sparse, dense = network.prompt_encoder.embed(
        coords, labels, None, image_size=(pixels, pixels), grid_size=(h, w), side=side
    )
    asked = decoder.ask(sparse)
    tokens, _ = decoder.transformer.join(image + dense, network.image_pe((side, side)), asked, None)
    return tokens[:, : 1 + decoder.num_mask_tokens]


def trained(student: Student, stage: DistillStage) -> list[nn.Parameter]:
    """Return the parameters that learn."""
    return [parameter for parameter in student.parameters() if parameter.requires_grad]


@torch.no_grad()
def score_held_out(
    student: Student,
    recipe: DistillRecipe,
    stage: DistillStage,
    held_out: list[Drawn],
    device: str,
    *,
    data: Path,
) -> dict[str, float]:
    """Score a student on the held-out photos, with the same prompts every time.

    ``embedding_error`` is the root mean square difference from the teacher's arrays, relative to theirs;
    ``teacher_box`` and ``teacher_point`` are mean IoUs with the teacher's masks, ``box`` and ``point`` with human
    ones; ``same_mask`` is the mean IoU of the masks of different objects in a photo, which is small if prompts matter.

    Warns:
        TrainingWarning: if ``same_mask`` is much greater than the teacher's.
    """
    set_norms(student.sam, False)
    images = max(1, min(stage.images, len(held_out)))
    asked = replace(recipe, mode="coupled")
    shown = replace(stage, images=images, objects=SCORED_OBJECTS)
    samples = DistillSamples(held_out, asked, shown, 0, data=data)
    found: dict[str, list[Tensor]] = {}
    for number in range(max(1, min(HELD_OUT_BATCHES, len(held_out) // images))):
        batch = {key: value.to(device) for key, value in samples[number].items()}
        for name, values in score_batch(student, batch, shown, device).items():
            found.setdefault(name, []).append(values.flatten())
    means = {
        name: float(torch.cat(values).mean()) for name, values in found.items() if torch.cat(values).numel()
    }
    warn_if_prompts_are_ignored(means)
    return {name: value for name, value in means.items() if name != "teacher_same_mask"}


def score_batch(student: Student, batch: Arrays, stage: DistillStage, device: str) -> dict[str, Tensor]:
    """Return a batch's scores by name, for each prompt, image or array."""
    with mixed_precision(device):
        seen = student.sam.see(channels_last(batch["pixels"]))
    taught = taught_arrays(student.teacher, batch, stage, device)
    coords, labels, targets = batch["point_coords"], batch["point_labels"], batch["targets"]
    teacher = student.teacher.decoder.to(device)
    ours, theirs = (for_prompts(n, dict(a), len(coords)) for n, a in ((student.sam, seen), (teacher, taught)))
    logits, target = decode_both(student.sam, teacher, ours, theirs, coords, labels)
    scores = {"embedding_error": embedding_errors(student, seen, taught, batch["shown"])}
    is_box, labelled = labels[:, 0] == 2, targets.flatten(1).any(1)
    taught_any = (target[:, 0] > 0).flatten(1).any(1)
    like_teacher = mask_ious(logits, (target[:, 0] > 0).float())[:, 0]
    like_human = mask_ious(logits, targets)[:, 0]
    for kind, chosen in (("box", is_box), ("point", ~is_box)):
        scores[f"teacher_{kind}"] = like_teacher[chosen & taught_any]
        scores[kind] = like_human[chosen & labelled]
    images = len(batch["pixels"])
    for name, masks in (("same_mask", logits), ("teacher_same_mask", target)):
        scores[name] = overlaps(
            (masks[:, 0] > 0).unflatten(0, (images, -1)), targets.unflatten(0, (images, -1))
        )
    return scores


def embedding_errors(student: Student, seen: Arrays, taught: Arrays, shown: Tensor) -> Tensor:
    """Return the relative root mean square error of each array (A,), where the input shows the photo."""
    errors = []
    for name, target in taught.items():
        cells = cells_shown(shown, target.shape[-2:])[:, None]
        found = student.project(seen, name, target).to(target.dtype)
        squares = [((x * cells).square().sum()) for x in (found - target, target)]
        errors.append((squares[0] / squares[1].clamp(min=1e-12)).sqrt())
    return torch.stack(errors)


def overlaps(masks: Tensor, targets: Tensor) -> Tensor:
    """Return the IoU of the masks (I, n, s, s) of each pair of prompts made from different objects."""
    found = []
    for each, truth in zip(masks, targets, strict=True):
        for a in range(len(each)):
            for b in range(a):
                if not torch.equal(truth[a], truth[b]):
                    union = (each[a] | each[b]).sum().clamp(min=1)
                    found.append((each[a] & each[b]).sum() / union)
    return torch.stack(found) if found else masks.new_zeros(0, dtype=torch.float32)


def warn_if_prompts_are_ignored(means: Mapping[str, float]) -> None:
    """Warn where different prompts get nearly the same mask, while the teacher tells them apart."""
    ours, theirs = means.get("same_mask"), means.get("teacher_same_mask")
    if ours is not None and theirs is not None and ours > theirs + IGNORED * (1 - theirs):
        warnings.warn(
            f"the student ignores its prompts: masks of different objects in a photo overlap by {ours:.2f}, the "
            f"teacher's by {theirs:.2f}; train longer, or compare masks (mode semi-coupled or coupled)",
            TrainingWarning,
            stacklevel=2,
        )


def student_weights(recipe: DistillRecipe, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the student's own weights, without projections."""
    return {name.removeprefix("sam."): tensor for name, tensor in weights.items() if name.startswith("sam.")}


DISTILL = Task(
    samples=DistillSamples,
    split=split_photos,
    start=start_student,
    plain=student_weights,
    trained=trained,
    step_loss=step_loss,
    score=score_held_out,
)
