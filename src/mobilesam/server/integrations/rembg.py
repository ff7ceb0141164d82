"""What rembg's server answers: a photo in, its subject on transparent ground out.

``POST /api/remove`` takes a form with the ``file`` and rembg's parameters. There is one model, so ``model`` is accepted
and has no effect, nor do the parameters of rembg's matting. ``extras`` may hold ``sam_prompt``.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mobilesam.core.errors import PromptError
from mobilesam.core.schema import Array, OneOf, Real, Record, Whole, check
from mobilesam.core.text import shortened
from mobilesam.core.types import Prompt
from mobilesam.formats.json_text import read_json
from mobilesam.segment.cutout import CutoutOptions
from mobilesam.server import answers
from mobilesam.server.endpoints import Endpoint, to_response
from mobilesam.server.images import FORM
from mobilesam.server.service import Service, gone_from

WITHOUT_EFFECT = ("model", "a", "af", "ab", "ae", "ppm", "dc", "vm")
TRUE, FALSE = ("true", "1", "on", "yes"), ("false", "0", "off", "no", "")
# Further fields of the extras belong to other models.
EXTRAS = Record(
    {
        "sam_prompt": Array(
            Record(
                {
                    "type": OneOf(("point", "rectangle")),
                    "data": Array(Real(), 2, 4),
                    "label": Whole(0, 1),
                },
                required=("type", "data"),
            ),
            1,
            100,
        )
    },
    open=True,
)


async def remove(service: Service, request: Request) -> Response:
    """Cut the subject, or what prompts point at, out of a photo."""
    form = await service.bodies.read_form(request)
    file = form.pop("file", None)
    if not isinstance(file, bytes):
        raise PromptError("file: is missing; send the photo as a file field of this name", code="U")
    fields = {**request.query_params, **{key: value for key, value in form.items() if isinstance(value, str)}}
    options = to_options(fields)
    prompts = to_prompts(fields.get("extras", ""))
    stored, _ = await service.embed(lambda: file, request)
    lane = service.prompting if prompts else service.encoding
    answer = await lane.run(
        lambda stop: answers.cutout_answer(service, stored, (prompts, (), ()), options, "png"),
        gone_from(request),
    )
    return to_response(answer)


def to_options(fields: dict[str, str]) -> CutoutOptions:
    """Return how it is to be cut out.

    Raises:
        PromptError: for a parameter that rembg does not have, or an invalid value.
    """
    for name in fields:
        if name not in (*WITHOUT_EFFECT, "om", "bgc", "extras"):
            raise PromptError(f"{name[:40]}: is not a parameter of rembg's", code="U")
    only_mask = fields.get("om", "").lower()
    if only_mask not in TRUE + FALSE:
        raise PromptError(f"om: is {shortened(only_mask)}; must be true or false", code="U")
    if only_mask in TRUE:
        return CutoutOptions(only_mask=True)
    return CutoutOptions(background=to_background(fields.get("bgc", "")))


def to_background(text: str) -> str:
    """Return a colour for ``R,G,B,A``; a transparent one is none."""
    if not text:
        return "none"
    parts = text.split(",")
    if len(parts) not in (3, 4) or not all(one.strip().isdecimal() and int(one) <= 255 for one in parts):
        raise PromptError(f"bgc: is {shortened(text)}; must be R,G,B,A, each 0 to 255", code="U")
    red, green, blue, *alpha = map(int, parts)
    return "none" if alpha == [0] else f"#{red:02x}{green:02x}{blue:02x}"


def to_prompts(extras: str) -> tuple[Prompt, ...]:
    """Return the prompts of ``sam_prompt``: all points and the last rectangle describe one object."""
    if not extras:
        return ()
    content: Any = read_json(extras, "extras", lambda message, code: PromptError(message, code=code))
    check(content, EXTRAS, "extras", lambda message: PromptError(message, code="U"))
    points, labels, box = [], [], None
    for i, one in enumerate(content.get("sam_prompt", [])):
        wanted = 2 if one["type"] == "point" else 4
        if len(one["data"]) != wanted:
            raise PromptError(f"extras: sam_prompt[{i}].data: must have {wanted} numbers", code="U")
        if one["type"] == "point":
            points.append(one["data"])
            labels.append(one.get("label", 1))
        else:
            box = one["data"]
    if not points and box is None:
        return ()
    return (Prompt(points or None, labels or None, box),)


ENDPOINTS = (
    Endpoint(
        *("POST", "/api/remove", remove, "rembg: cut the subject out of a photo."),
        bodies=(FORM,),
        answers={answers.PNG: None},
        any_query=True,
        errors=(413, 415),
    ),
)
