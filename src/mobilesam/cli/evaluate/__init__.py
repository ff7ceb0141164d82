"""``mobilesam evaluate``: scores by named protocols; a file for each kind of question."""

from __future__ import annotations

import click

from mobilesam.cli.evaluate.against import agreement
from mobilesam.cli.evaluate.detected import detections
from mobilesam.cli.evaluate.everything import everything
from mobilesam.cli.evaluate.outlines import edges
from mobilesam.cli.evaluate.prompted import clicks, masks, robustness
from mobilesam.cli.evaluate.subject import subject
from mobilesam.cli.evaluate.videos import video


@click.group()
def evaluate() -> None:
    """Score a model.

    \b
    mobilesam evaluate masks data/eval/coco_val
    mobilesam evaluate clicks data/eval/coco_val
    mobilesam evaluate everything data/eval/coco_val
    mobilesam evaluate subject data/eval/msrc_cow
    mobilesam evaluate video DAVIS
    mobilesam evaluate agreement shots --teacher sam_vit_h --model mobile_sam
    """


for command in (masks, clicks, everything, subject, agreement, detections, edges, robustness, video):
    evaluate.add_command(command)
