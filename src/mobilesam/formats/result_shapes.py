"""What the documents that ``--json`` prints hold; see docs/reference/json.md."""

from __future__ import annotations

from mobilesam.core.schema import Array, OneOf, Real, Record, Shape, Table, Text, Whole

ERROR_CODES = ("U", "S", "I", "L", "W", "O", "T")

_SIZE: dict[str, Shape] = {"file": Text(), "width": Whole(1), "height": Whole(1)}
_BOX = Array(Whole(), 4, 4)
_RUNS = Record({"size": Array(Whole(1), 2, 2), "counts": Text()}, required=("size", "counts"))
_MASK: dict[str, Shape] = {
    "predicted_iou": Real(),
    "stability_score": Real(0, 1),
    "area": Whole(),
    "box": _BOX,
    "segmentation": _RUNS,
}
_FILES = Table(Text())


def _closed(**fields: Shape) -> Record:
    """Return a record that has all of its fields, and no others."""
    return Record(fields, required=tuple(fields))


def _document(image: Record) -> Record:
    return _closed(
        version=OneOf((1,)),
        model=_closed(name=Text(), runtime=Text(), device=Text()),
        images=Array(image),
        errors=Array(_closed(file=Text(), code=OneOf(ERROR_CODES), message=Text())),
    )


OBJECT = Record(
    {
        "label": Text(),
        "text_score": Real(0, 1),
        "prompt": Record({}, open=True),
        "chosen": Whole(0, 2),
        "masks": Array(_closed(**_MASK), 1, 3),
        "files": _FILES,
    },
    required=("prompt", "chosen", "masks", "files"),
    later={"dependentRequired": {"text_score": ["label"]}},
)
RESULTS = _document(
    _closed(
        **_SIZE,
        milliseconds=_closed(embed=Real(), segment=Real()),
        objects=Array(OBJECT),
        files=_FILES,
        warnings=Array(Text()),
    )
)
FOUND_MASK = _closed(**_MASK, objectness=Real(0, 1), point=Array(Real(), 2, 2), crop=_BOX)
EVERYTHING = _document(
    _closed(
        **_SIZE,
        milliseconds=Real(0),
        prompts=Whole(),
        masks=Array(FOUND_MASK),
        files=_FILES,
        warnings=Array(Text()),
    )
)
