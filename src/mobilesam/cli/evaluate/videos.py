"""``mobilesam evaluate video``: how well objects are followed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from mobilesam.cli.evaluate.runs import print_json, sets_argument, with_bar
from mobilesam.cli.fields import option_field, options_from
from mobilesam.cli.options import ModelOptions, load_model
from mobilesam.core.errors import ConfigError
from mobilesam.core.text import shortened
from mobilesam.evaluate.video import PROMPTS, score_videos


@dataclass(frozen=True)
class VideoQuestions:
    """What is asked of videos.

    Attributes:
        prompt: what is given from an object's first mask: ``box``, ``mask`` or ``point``.
        json: print the scores as JSON, of every object.
    """

    prompt: str = option_field(PROMPTS[0], metavar="NAME")
    json: bool = False

    def __post_init__(self) -> None:
        if self.prompt not in PROMPTS:
            raise ConfigError(f"prompt: is {shortened(self.prompt)}; choose one of {', '.join(PROMPTS)}")


@click.command()
@sets_argument
@options_from(VideoQuestions, "questions")
@options_from(ModelOptions, "model")
def video(sets: tuple[Path, ...], questions: VideoQuestions, model: ModelOptions) -> None:
    """Follow the objects of annotated videos, and score the masks.

    SET is a folder in DAVIS' layout: JPEGImages/NAME/00000.jpg and Annotations/NAME/00000.png. J is the mean IoU, F
    the F-measure of the outline, missed the share of frames on which a visible object was reported lost.

    \b
    mobilesam evaluate video DAVIS --prompt mask
    """
    loaded, prompt = load_model(model), questions.prompt
    scores = [with_bar(folder.name, partial(score_videos, loaded, folder, prompt=prompt)) for folder in sets]
    if questions.json:
        print_json(
            loaded.name,
            [
                {"name": s.name, "videos": s.videos, "prompt": prompt, "j": s.j, "f": s.f, "jf": s.jf}
                | {"missed": s.missed, "objects": [dataclasses.asdict(one) for one in s.objects]}
                for s in scores
            ],
        )
        return
    click.echo(f"{'set':<20}{'videos':>8}{'objects':>9}{'J':>8}{'F':>8}{'J&F':>8}{'missed':>9}")
    for s in scores:
        click.echo(
            f"{s.name:<20}{s.videos:>8}{len(s.objects):>9}{s.j:>8.3f}{s.f:>8.3f}{s.jf:>8.3f}{s.missed:>9.1%}"
        )
