"""What the machine chooses for a fine-tuning: the held-out photos, the input's size, the settings and the steps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mobilesam.core.errors import ConfigError
from mobilesam.core.spec import NetworkSpec
from mobilesam.core.views import LARGEST
from mobilesam.formats.coco import SetPhoto
from mobilesam.train.recipe import Recipe, SourceSet, Stage

HELD_OUT = 0.2  # part of the photos that is scored and not trained on
SMALLEST = (1e-4, 0.0012)  # bounds of the least part of a photo that an object must cover to count
SMALL_PERCENTILE = 10  # of the parts that objects cover: those below are left out
SIZES = {"pocket": (384, 512, 768)}  # sides that samples may have; other networks have only their own
FEWEST_STEPS = 60  # from which a larger input is worthwhile
MOST_ROUNDS = 100  # greatest number of times that each photo is seen
LEAST_CAP = 300  # steps that are allowed even for few photos
USED = 0.92  # part of the time, so that a machine that gets busier still finishes the schedule
RATES = {"all": 3e-4, "decoder": 3e-4, "lora": 1e-3}
LARGE_RATES = {"all": 3e-5, "decoder": 1e-4, "lora": 5e-4}  # for networks with a transformer as encoder
WINDOWS = (0.1, 0.8)  # bounds of the part of the steps that show small objects, where there are some


@dataclass(frozen=True)
class Facts:
    """What the photos are like.

    Attributes:
        photos: number of photos with an object that counts.
        objects: number of objects that count.
        smallest: least part of its photo that such an object covers.
        small: part of the objects that the network decodes from a window.
        held_out: bound of the names' hashes below which photos are held out; see ``train.data.split_sets``.
    """

    photos: int
    objects: int
    smallest: float
    small: float
    held_out: float


def facts_of(photos: Sequence[SetPhoto], spec: NetworkSpec, *, hold_out: bool) -> Facts:
    """Look at a set.

    Args:
        photos: all of its photos.
        spec: spec of the network that learns.
        hold_out: whether some photos are scored instead of trained on.

    Raises:
        ConfigError: if no photo has an object with a mask.
    """
    parts = np.array([one.segmentation.area / (p.width * p.height) for p in photos for one in p.instances])
    if not parts.size:
        raise ConfigError(
            f"{len(photos)} photos, and none has an object with a mask; fine-tuning needs masks"
        )
    smallest = float(np.clip(np.percentile(parts, SMALL_PERCENTILE), *SMALLEST))
    counting = [
        p for p in photos if any(o.segmentation.area >= smallest * p.width * p.height for o in p.instances)
    ]
    if not counting:
        raise ConfigError(
            f"{len(photos)} photos, and no object covers {smallest:g} of its photo; give photos with larger objects"
        )
    return Facts(
        photos=len(counting),
        objects=int((parts >= smallest).sum()),
        smallest=smallest,
        small=small_part(counting, spec),
        held_out=hash_bound([p.path.name for p in counting]) if hold_out else 0.0,
    )


def small_part(photos: Sequence[SetPhoto], spec: NetworkSpec) -> float:
    """Return the part of the objects that a network decodes from a window."""
    if not spec.view_size:
        return 0.0
    sides = np.array(
        [max(one.bbox[2:]) / max(p.width, p.height) for p in photos for one in p.instances], np.float64
    )
    return float((sides * spec.image_size <= LARGEST * spec.view_size).mean())


def hash_bound(names: Sequence[str]) -> float:
    """Return the bound of names' hashes below which a fifth of the photos lies, at least one; 0 for a single photo."""
    hashes = sorted(
        int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32 for name in names
    )
    if len(hashes) < 2:
        return 0.0
    count = max(1, round(HELD_OUT * len(hashes)))
    return (hashes[count - 1] + hashes[count]) / 2


def default_part(network: str) -> str:
    """Return what learns by default."""
    return "all" if network in SIZES else "decoder"


def make_recipe(source: SourceSet, facts: Facts, spec: NetworkSpec, base: Recipe, images: int) -> Recipe:
    """Return the recipe of a fine-tuning, whose stage still has a single step.

    Args:
        source: the set.
        facts: what it is like.
        spec: spec of the network.
        base: a recipe with network, start, seed and ``tuned``.
        images: photos per step.
    """
    pocket = spec.name in SIZES
    rates = RATES if pocket else LARGE_RATES
    stage = Stage(
        image_size=spec.image_size,
        steps=1,
        images=images,
        objects=6,
        learning_rate=rates[base.tuned],
        warm_up=10,
        last_rate=0.05,
        averaged=0.3,
        # The head for objects follows the features that move below it.
        boxes=0.03 if spec.proposes and base.tuned == "all" else 0.0,
        boundary=4.0 if pocket else 0.0,
        focal=5.0 if pocket else 20.0,
        sharpness=5.0 if pocket else 1.0,
        whole=0.5,
        smallest_crop=0.4,
        windows=float(np.clip(facts.small, *WINDOWS)) if facts.small else 0.0,
        loose_boxes=0.3,
    )
    return Recipe(
        network=base.network,
        sets=(source,),
        stages=(stage,),
        seed=base.seed,
        start=base.start,
        weight_decay=0.02,
        held_out=facts.held_out,
        correct=0.25,
        smallest_object=facts.smallest,
        tuned=base.tuned,
    )


def most_steps(facts: Facts, stage: Stage) -> int:
    """Return how many steps a set is good for; with more, it would be learned by heart."""
    return max(LEAST_CAP, MOST_ROUNDS * facts.photos // stage.images)


def choose_size(spec: NetworkSpec, seconds: float, time_step: Callable[[int], float]) -> tuple[int, float]:
    """Return the side of the samples, and how long a step with it takes, in seconds.

    The largest side with which enough steps fit into ``seconds`` wins. A step's time is about proportional to its
    pixels, so only the smallest side and the chosen one are measured.

    Args:
        spec: spec of the network.
        seconds: how long training may take.
        time_step: measures a step on samples with a given side.
    """
    smallest, *larger = SIZES.get(spec.name, (spec.image_size,))
    each = time_step(smallest)
    fitting = [side for side in larger if each * (side / smallest) ** 2 * FEWEST_STEPS <= seconds]
    return (fitting[-1], time_step(fitting[-1])) if fitting else (smallest, each)
