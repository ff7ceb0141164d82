"""How a fine-tuning goes: score, measure, train, score again, and show."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mobilesam.core.arrays import Image
from mobilesam.core.errors import ConfigError
from mobilesam.core.rle import rle_to_mask
from mobilesam.core.text import counted
from mobilesam.draw.overlay import draw_overlay, line_width, outline
from mobilesam.evaluate.prompted import ObjectScore, score_photo
from mobilesam.evaluate.report import COLUMNS, TRUTH_COLOUR, draw_tiles
from mobilesam.formats.coco import SetPhoto, read_photo
from mobilesam.formats.datasets.photos import read_photos
from mobilesam.formats.image import image_to_png
from mobilesam.runtimes.torch import choose_device, limit_threads
from mobilesam.segment.model import Model, load
from mobilesam.storage.atomic import check_folder, write_bytes
from mobilesam.train.checkpoint import FORCE
from mobilesam.train.data import Drawn, Samples, has_large_object, split_sets
from mobilesam.train.finetune import Finetuned, FinetuneOptions, Tell
from mobilesam.train.finish import finish
from mobilesam.train.loop import Progress, train
from mobilesam.train.masks import MASKS, score_held_out
from mobilesam.train.options import RunOptions
from mobilesam.train.plan import SIZES, USED, choose_size, default_part, facts_of, make_recipe, most_steps
from mobilesam.train.recipe import Recipe, SourceSet, read_recipe, recipe_to_toml
from mobilesam.weights import entry_of
from mobilesam.weights.graph_index import network_specs
from mobilesam.weights.own import add_own, check_own_name

KINDS = ("box", "point")  # of the prompts that are scored
SCORED_PART = 0.1  # part of the minutes for the scores before, and as much again for those after
MOST_SCORED = 20.0  # seconds for scoring, so that there are figures within half a minute
LEAST_TRAINED = 0.2  # part of the minutes, however long scoring and measuring took
MOST_OBJECTS = 12  # scored per photo, so that more photos are scored
MEASURED = 2  # number of steps that are timed
SAVES = 5  # in a run
SHORTEST_SAVE = 30.0  # seconds between two saves
REPORTS = 20.0  # seconds between two lines
QUICK_BATCHES = 3  # number of batches scored during training
LEAST_COLUMNS = 3  # of the sheet, so that its title has room
RECIPE, SCORES, SHEET = "recipe.toml", "scores.json", "before-after.png"

Found = dict[str, list[ObjectScore]]  # by kind of prompt


@dataclass(frozen=True)
class Scored:
    """Photos with the scores of one model.

    Attributes:
        photos: the photos that were scored.
        each: what was found in each.
    """

    photos: list[SetPhoto]
    each: list[Found]

    def mean(self, kind: str) -> float:
        """Mean IoU over the objects."""
        return float(np.mean([score.iou for found in self.each for score in found[kind]]))

    @property
    def means(self) -> dict[str, float]:
        """Mean IoU by kind of prompt."""
        return {kind: self.mean(kind) for kind in KINDS}

    @property
    def objects(self) -> int:
        """Number of objects that were scored."""
        return sum(len(found[KINDS[0]]) for found in self.each)

    def told(self) -> str:
        """The means in one line."""
        means = ", ".join(f"{kind} IoU {mean:.3f}" for kind, mean in self.means.items())
        return f"{means} ({counted(self.objects, 'objects')} in {counted(len(self.photos), 'photos')})"


class Tuning:
    """One call of :func:`mobilesam.train.finetune.finetune`, with the same arguments."""

    def __init__(self, data: Path, out: Path, options: FinetuneOptions, tell: Tell) -> None:
        self.started = time.monotonic()
        self.data, self.out, self.options, self.tell = data.resolve(), out, options, tell
        self.entry = entry_of(options.model)
        if not self.entry.network:
            raise ConfigError(f"model {options.model!r}: is not a whole model ({self.entry.about})")
        if options.name is not None:
            check_own_name(options.name)
        if options.threads:
            limit_threads(options.threads)
        self.device = choose_device(options.device).type

    @property
    def seconds_left(self) -> float:
        """Seconds until the minutes are over."""
        return self.options.minutes * 60 - (time.monotonic() - self.started)

    def run(self) -> Finetuned:
        """Do all of it."""
        wanted = self.look()
        check_folder(self.out)
        photos = self.photos_to_score(wanted)
        start = time.monotonic()
        before = self.score_before(photos)
        kept_back = 1.3 * (time.monotonic() - start)
        recipe = self.planned(wanted, kept_back)
        newest = self.train(recipe, kept_back)
        weights, *_ = finish(recipe, newest, self.out)
        if self.options.name is not None:
            add_own(weights, self.options.name)
        after = self.score(self.model(weights), before.photos)
        self.tell(f"after:  {after.told()}")
        return self.leave(weights, before, after, int(newest.stem.rpartition("-")[2]))

    def look(self) -> Recipe:
        """Read the set; return the recipe that follows from it, with size and steps still open."""
        options, spec = self.options, network_specs()[self.entry.network]
        photos = read_photos(self.data, follow_symlinks=options.follow_symlinks)
        try:
            self.facts = facts_of(photos, spec, hold_out=options.val is None)
        except ConfigError as error:
            raise ConfigError(f"{self.data}: {error}") from error
        what = options.what or default_part(self.entry.network)
        start = str(options.checkpoint.resolve()) if options.checkpoint else options.model
        source = SourceSet(str(self.data), terms="your own", partial=("*",))
        self.tell(
            f"{counted(self.facts.photos, 'photos')} with {counted(self.facts.objects, 'objects')}; starting from {start}, {what_learns(what)} learns"
        )
        return make_recipe(
            source,
            self.facts,
            spec,
            Recipe(self.entry.network, (source,), (), seed=options.seed, start=start, tuned=what),
            images=4 if self.device != "cpu" else 2 if self.entry.network in SIZES else 1,
        )

    def photos_to_score(self, recipe: Recipe) -> list[SetPhoto]:
        """Return the photos of ``val`` or those held out, in a fixed order."""
        options = self.options
        if options.val is not None:
            photos = read_photos(options.val, follow_symlinks=options.follow_symlinks)
            photos = [photo for photo in photos if has_large_object(photo, recipe.smallest_object)]
            if not photos:
                raise ConfigError(f"val: {options.val} has no object that is large enough to be scored")
        else:
            trained, held_out = self.split(recipe)
            photos = [drawn.photo for drawn in held_out or trained]
            if not held_out:
                self.tell(
                    "the only photo is both trained on and scored, so its scores say little; give more, or val"
                )
        order = np.random.default_rng(0).permutation(len(photos))
        return [some_objects(photos[i], recipe.smallest_object) for i in order]

    def split(self, recipe: Recipe) -> tuple[list[Drawn], list[Drawn]]:
        """Return the photos that are trained on, and those that are held out."""
        return split_sets(recipe, self.data.parent, follow_symlinks=self.options.follow_symlinks)

    def model(self, weights: Path | None = None) -> Model:
        """Load the original model, or the one with new weights, as its users do."""
        options = self.options
        runtime: dict[str, Any] = {"runtime": "torch", "device": self.device}
        if self.device == "cpu":
            runtime = {"threads": options.threads}
        return load(options.model, checkpoint=weights or options.checkpoint, **runtime)

    def score_before(self, photos: list[SetPhoto]) -> Scored:
        """Score the original model on as many photos as there is time for."""
        model, start = self.model(), time.monotonic()
        allowed = min(MOST_SCORED, SCORED_PART * self.options.minutes * 60)
        each: list[Found] = []
        for photo in photos:
            each += self.score(model, [photo]).each
            passed = time.monotonic() - start
            if passed + passed / len(each) > allowed:
                break
        before = Scored(photos[: len(each)], each)
        self.tell(f"before: {before.told()}")
        return before

    def score(self, model: Model, photos: list[SetPhoto]) -> Scored:
        """Score a model on photos."""
        smallest = self.facts.smallest
        return Scored(photos, [score_photo(model, photo, kinds=KINDS, smallest=smallest) for photo in photos])

    def planned(self, wanted: Recipe, kept_back: float) -> Recipe:
        """Return the folder's recipe, or measure the machine and write one.

        Args:
            wanted: what the set and the options ask for.
            kept_back: seconds reserved for what comes after training.

        Raises:
            ConfigError: if the folder has a recipe for other options or another set.
        """
        path = self.out / RECIPE
        if path.is_file():
            recipe = read_recipe(path)
            chosen = recipe.stages[0]
            stage = replace(wanted.stages[0], image_size=chosen.image_size, steps=chosen.steps)
            if recipe != replace(wanted, stages=(stage,)) and not self.options.force:
                raise ConfigError(
                    f"{path}: belongs to a run with other options or photos; choose another folder",
                    remedy=FORCE,
                )
            self.each = 0.0
            return recipe
        recipe = self.measured(wanted, kept_back)
        comment = (
            "What mobilesam finetune chose. The same training, without its limit of time:\n"
            f"mobilesam train masks {RECIPE} --out ANOTHER_FOLDER"
        )
        write_bytes(path, recipe_to_toml(recipe, comment).encode())
        return recipe

    def measured(self, wanted: Recipe, kept_back: float) -> Recipe:
        """Choose the input's size and the number of steps by how long a step takes on this machine."""
        photos, _ = self.split(wanted)
        network = MASKS.start(wanted, self.data.parent).to(self.device)
        time_step = partial(seconds_of_step, network, wanted, photos, self.device)
        least = LEAST_TRAINED * self.options.minutes * 60
        side, self.each = choose_size(
            network_specs()[wanted.network], max(least, self.seconds_left - kept_back), time_step
        )
        room = max(least, self.seconds_left - kept_back)
        stage = replace(wanted.stages[0], image_size=side)
        steps = int(np.clip(USED * room / self.each, 1, most_steps(self.facts, stage)))
        self.tell(f"a step takes {self.each:.1f} s at {side} pixels: {steps} steps")
        warm_up = min(stage.warm_up, max(1, steps // 5))
        return replace(wanted, stages=(replace(stage, steps=steps, warm_up=warm_up),))

    def train(self, recipe: Recipe, kept_back: float) -> Path:
        """Train until the minutes are over or the steps are done; return the newest checkpoint."""
        options, each = self.options, self.each or 1.0
        room = max(self.seconds_left - kept_back - each, LEAST_TRAINED * options.minutes * 60)
        run = RunOptions(
            follow_symlinks=options.follow_symlinks,
            device=self.device,
            workers=options.workers,
            minutes=room / 60,
            report_every=max(1, round(REPORTS / each)),
            save_every=max(1, round(max(SHORTEST_SAVE, room / SAVES) / each)),
            force=options.force,
        )
        task = replace(MASKS, score=partial(score_held_out, batches=QUICK_BATCHES))
        return train(task, recipe, self.data.parent, self.out, run, self.tell_progress)

    def tell_progress(self, progress: Progress) -> None:
        """Report a line of the training."""
        scores = f", box IoU {progress.scores['box']:.3f}" if progress.scores else ""
        self.tell(f"step {progress.step} of {progress.steps}: loss {progress.loss:.3f}{scores}")

    def leave(self, weights: Path, before: Scored, after: Scored, steps: int) -> Finetuned:
        """Write the scores and the contact sheet."""
        sheet, path = self.out / SHEET, self.out / SCORES
        write_bytes(sheet, image_to_png(draw_before_after(before, after)))
        result = Finetuned(
            weights,
            self.out / RECIPE,
            sheet,
            before.means,
            after.means,
            photos=len(after.photos),
            objects=after.objects,
            steps=steps,
            name=self.options.name or "",
        )
        content = {key: str(v) if isinstance(v, Path) else v for key, v in asdict(result).items()}
        write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())
        if after.mean("box") < before.mean("box"):
            self.tell(
                "boxes are worse than before on these photos; keep the old weights, or give more photos or time"
            )
        return result


def some_objects(photo: SetPhoto, smallest: float) -> SetPhoto:
    """Return a photo with only some of its objects that count, the same in every run, if it has many."""
    counting = [
        one for one in photo.instances if one.segmentation.area >= smallest * photo.width * photo.height
    ]
    chosen = np.random.default_rng(0).permutation(len(counting))[:MOST_OBJECTS]
    return replace(photo, instances=tuple(counting[i] for i in sorted(chosen)))


def what_learns(what: str) -> str:
    """Return the name of a network's part in words."""
    return {"all": "everything", "decoder": "the mask decoder", "lora": "an addition of low rank"}[what]


def seconds_of_step(
    network: torch.nn.Module, recipe: Recipe, photos: list[Drawn], device: str, side: int
) -> float:
    """Time a training step with samples of a given side, including making them; the weights stay."""
    stage = replace(recipe.stages[0], image_size=side, steps=MEASURED + 1)
    samples = Samples(photos, recipe, stage, 0)
    start = 0.0
    for number in range(MEASURED + 1):  # the first one warms up
        start = time.monotonic() if number == 1 else start
        batch = {key: value.to(device) for key, value in samples[number].items()}
        loss = MASKS.step_loss(network, batch, recipe, stage, number, device)
        loss.backward(inputs=MASKS.trained(network, stage))
        loss.item()
    network.zero_grad(set_to_none=True)
    return (time.monotonic() - start) / MEASURED


def draw_before_after(before: Scored, after: Scored) -> Image:
    """Return a sheet of photos, from the greatest gain to the least, with before above and after below."""
    gains = [
        np.mean([score.iou for score in new["box"]]) - np.mean([score.iou for score in old["box"]])
        for old, new in zip(before.each, after.each, strict=True)
    ]
    order = np.argsort(gains, kind="stable")[::-1]
    shown = order[np.unique(np.linspace(0, len(order) - 1, min(COLUMNS, len(order))).round().astype(int))]
    return draw_tiles(
        [[_tile(scored.each[i]["box"]) for i in shown] for scored in (before, after)],
        "before (above) and after (below), human outlines in white; greatest gain first",
        columns=max(len(shown), LEAST_COLUMNS),
    )


def _tile(scores: list[ObjectScore]) -> tuple[Image, str]:
    """Return a photo with the masks of its objects, and its mean IoU."""
    image = read_photo(scores[0].photo)
    out = draw_overlay(image, [rle_to_mask(score.mask) for score in scores]).copy()
    for score in scores:
        out[outline(rle_to_mask(score.truth), line_width(image))] = TRUTH_COLOUR
    return out, f"mean IoU {np.mean([score.iou for score in scores]):.2f}, {counted(len(scores), 'objects')}"
