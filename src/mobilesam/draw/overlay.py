"""Pictures to look at: masks over the photo, and a ruler for finding coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from mobilesam.core.arrays import Image, Mask
from mobilesam.core.boxes import mask_to_box
from mobilesam.core.prompts import FOREGROUND, ValidPrompt
from mobilesam.core.regions import central_pixel
from mobilesam.core.rle import Rle, rle_to_mask
from mobilesam.core.text import printable

# Colours that differ in lightness as well as in hue (after Okabe and Ito).
COLOURS = (
    (0, 158, 240),
    (240, 140, 0),
    (0, 190, 120),
    (220, 80, 180),
    (240, 220, 40),
    (120, 100, 240),
    (230, 60, 40),
)
OPACITY = 0.5
FOREGROUND_COLOUR, BACKGROUND_COLOUR = (40, 220, 60), (240, 40, 40)
LABEL_CELLS = 48  # pixels that a mask's longer side is thinned out to, to find the place of its number
CAPTION = 40  # characters of one that are drawn
RULER_LINES = 10  # about this many along the longer side
RULER_SIDE = 600  # least pixels of the longer side of a ruler's picture
TICKS = 10  # between two lines


def draw_overlay(
    image: Image,
    masks: Sequence[Mask],
    *,
    prompts: Sequence[ValidPrompt] = (),
    captions: Sequence[str] = (),
    colours: Sequence[tuple[int, int, int]] = COLOURS,
) -> Image:
    """Return the image with each mask tinted and outlined, and the prompts drawn in.

    Args:
        image: (H, W, 3).
        masks: (H, W) each, in the order of the colours.
        prompts: points as dots, boxes as rectangles.
        captions: of the prompts, written at the upper left corners of their boxes or beside their first points;
            empty for none.
        colours: red, green, blue; from the first again if there are more masks.
    """
    out = image.astype(np.float32)
    width = line_width(image)
    for i, mask in enumerate(masks):
        colour = np.array(colours[i % len(colours)], np.float32)
        out[mask] = (1 - OPACITY) * out[mask] + OPACITY * colour
        out[outline(mask, width)] = 0.35 * colour + 0.65 * 255
    picture = PillowImage.fromarray(out.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for i, prompt in enumerate(prompts):
        _draw_prompt(draw, prompt, colours[i % len(colours)], width)
    font = ImageFont.load_default(max(10, max(image.shape[:2]) // 60))
    for prompt, caption in zip(prompts, captions, strict=False):
        places = prompt.points if prompt.box is None else prompt.box[None, :2]
        if caption and len(places):
            text = short(caption)
            x, y = places[0].tolist()
            x = min(x + width + 2, max(0, picture.width - draw.textlength(text, font=font) - 1))
            _label(draw, (x, y + width + 1), text, font)
    return np.asarray(picture)


def short(caption: str) -> str:
    """Return a caption that can be drawn: in one line, without invisible characters, its end kept."""
    caption = printable(caption)
    if len(caption) <= CAPTION:
        return caption
    return f"{caption[: CAPTION - 10]}...{caption[-7:]}"


def draw_numbered(image: Image, masks: Sequence[Rle]) -> Image:
    """Return the image with many masks tinted, outlined and numbered from 1, small ones on top.

    They are decoded one at a time: together they would be far larger than the image. A number stands in the visible
    part of its mask, so that those of nested masks lie apart; a mask that is wholly covered has none.

    Args:
        image: (H, W, 3).
        masks: runs of masks (H, W).
    """
    out = image.copy()
    width = line_width(image)
    seen = np.zeros(image.shape[:2], np.int32)  # number of the mask on top
    windows: dict[int, tuple[slice, slice]] = {}
    for i in sorted(range(len(masks)), key=lambda i: masks[i].area, reverse=True):
        mask = rle_to_mask(masks[i])
        x0, y0, x1, y1 = mask_to_box(mask)
        if not x1:
            continue
        windows[i] = window = (slice(y0, y1), slice(x0, x1))
        inside, colour = mask[window], np.array(COLOURS[i % len(COLOURS)], np.float32)
        out[window][inside] = (1 - OPACITY) * image[window][inside] + OPACITY * colour
        out[window][outline(inside, width)] = 0.35 * colour + 0.65 * 255
        seen[window][inside] = i + 1
    picture = PillowImage.fromarray(out)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(max(9, max(image.shape[:2]) // 70))
    for i, (rows, columns) in windows.items():
        part = seen[rows, columns] == i + 1
        if part.any():
            x, y = label_place(part)
            draw.text(
                (columns.start + x, rows.start + y),
                str(i + 1),
                fill="white",
                stroke_fill="black",
                stroke_width=1,
                font=font,
                anchor="mm",
            )
    return np.asarray(picture)


def draw_labelled(
    image: Image, masks: Sequence[Mask], captions: Sequence[str], colours: Sequence[int]
) -> Image:
    """Return the image with each mask tinted and outlined, and its name inside.

    Args:
        image: (H, W, 3).
        masks: (H, W) each, none of them empty.
        captions: of the masks.
        colours: number of each mask's colour, so that an object keeps its own from frame to frame.
    """
    chosen = [COLOURS[number % len(COLOURS)] for number in colours]
    picture = PillowImage.fromarray(draw_overlay(image, masks, colours=chosen or COLOURS))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(max(11, max(image.shape[:2]) // 40))
    for mask, caption in zip(masks, captions, strict=True):
        draw.text(
            label_place(mask),
            short(caption),
            fill="white",
            stroke_fill="black",
            stroke_width=2,
            font=font,
            anchor="mm",
        )
    return np.asarray(picture)


def label_place(mask: Mask) -> tuple[int, int]:
    """Return an (x, y) well inside a mask, found on a thinned-out copy."""
    x0, y0, x1, y1 = mask_to_box(mask)
    step = max(1, -(-max(x1 - x0, y1 - y0) // LABEL_CELLS))
    thin = mask[y0:y1:step, x0:x1:step]
    if not thin.any():
        return (x0 + x1) // 2, (y0 + y1) // 2
    x, y = central_pixel(thin)
    return x0 + x * step, y0 + y * step


def outline(mask: Mask, width: int) -> Mask:
    """Return the mask's inner edge, ``width`` pixels wide."""
    inner = mask.copy()
    for _ in range(width):
        shrunk = np.zeros_like(inner)
        shrunk[1:-1, 1:-1] = (
            inner[1:-1, 1:-1] & inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
        )
        inner = shrunk
    return mask & ~inner


def draw_ruler(image: Image, prompts: Sequence[ValidPrompt] = ()) -> Image:
    """Return the image with a labelled coordinate grid, in pixels: for choosing points without a mouse.

    Every tenth of a square has a tick along the edges. Small images are enlarged, so that there is room for the
    numbers, which are always those of the image itself.

    Args:
        image: (H, W, 3).
        prompts: points and boxes to draw in.
    """
    height, width = image.shape[:2]
    scale = max(1, -(-RULER_SIDE // max(height, width)))
    enlarged = image.repeat(scale, 0).repeat(scale, 1)
    step, thin = nice_step(max(height, width) / RULER_LINES), line_width(enlarged)
    picture = PillowImage.fromarray(enlarged).convert("RGBA")
    layer = PillowImage.new("RGBA", picture.size)
    draw = ImageDraw.Draw(layer)
    for shift, colour in ((thin, (0, 0, 0, 150)), (0, (255, 255, 255, 190))):  # visible on light and on dark
        for place in range(0, max(height, width), step):
            at = place * scale + shift
            draw.line([(at, 0), (at, picture.height)], fill=colour, width=thin)
            draw.line([(0, at), (picture.width, at)], fill=colour, width=thin)
        if step >= TICKS and step // TICKS * scale > 3 * thin:
            for place in range(0, max(height, width), step // TICKS):
                at, long = place * scale + shift, 4 * thin
                for x in (0, picture.width - long):
                    draw.line([(x, at), (x + long, at)], fill=colour, width=thin)
                for y in (0, picture.height - long):
                    draw.line([(at, y), (at, y + long)], fill=colour, width=thin)
    font = ImageFont.load_default(max(10, max(enlarged.shape[:2]) // 60))
    for x in range(0, width, step):
        _label(draw, (x * scale + 5 * thin, 5 * thin), str(x), font)
    for y in range(step, height, step):
        _label(draw, (5 * thin, y * scale + 3 * thin), str(y), font)
    for i, prompt in enumerate(prompts):
        box = None if prompt.box is None else prompt.box * scale
        moved = replace(prompt, points=prompt.points * scale, box=box)
        _draw_prompt(draw, moved, COLOURS[i % len(COLOURS)], thin)
    return np.asarray(PillowImage.alpha_composite(picture, layer).convert("RGB"))


def nice_step(length: float) -> int:
    """Return the smallest of 1, 2, 5, 10, 20, 50 ... that is at least ``length``."""
    power = 10 ** max(0, math.floor(math.log10(max(length, 1))))
    return int(next(m * power for m in (1, 2, 5, 10) if m * power >= length))


def line_width(image: Image) -> int:
    """Return a width in pixels that is visible at any size of image."""
    return max(1, round(max(image.shape[:2]) / 500))


def _draw_prompt(draw: ImageDraw.ImageDraw, prompt: ValidPrompt, colour: tuple, width: int) -> None:
    if prompt.box is not None:
        draw.rectangle(prompt.box.tolist(), outline=colour, width=width + 1)
    r = 3 * width + 2
    for (x, y), label in zip(prompt.points.tolist(), prompt.labels, strict=True):
        fill = FOREGROUND_COLOUR if label == FOREGROUND else BACKGROUND_COLOUR
        draw.ellipse([x - r, y - r, x + r, y + r], fill=fill, outline=(255, 255, 255), width=width)


def _label(
    draw: ImageDraw.ImageDraw, place: tuple, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> None:
    draw.rectangle(draw.textbbox(place, text, font=font), fill=(0, 0, 0, 160))
    draw.text(place, text, fill=(255, 255, 255, 255), font=font)
