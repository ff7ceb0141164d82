"""Names of models, and what people write instead of them."""

from __future__ import annotations

import pytest

from mobilesam import ConfigError, load


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "mobile_sam.pt",
            "is a file's name; the model is 'mobile_sam', and a file of your own is its checkpoint=FILE",
        ),
        ("sam_b.pt", "is a file's name; the model is 'sam_vit_b'"),
        ("sam_vit_h_4b8939.pth", "is a file's name; the model is 'sam_vit_h'"),
        ("vit_t.pt", "is a file's name; the model is 'mobile_sam'"),
        (
            "FastSAM-s.pt",
            "is FastSAM, another architecture, which is not read; the default model is 'pocket'",
        ),
        ("sam2_b.pt", "is SAM 2, another architecture"),
        ("yolov8n.pt", "is a detector, not a model; export it to ONNX and give it as detector"),
        (
            "runs/own.safetensors",
            "give the model of its network, and the file as checkpoint=FILE; mobilesam info lists the models",
        ),
        ("sam", "unknown; choose pocket, mobile_sam or another"),
        (5, "unknown; choose pocket, mobile_sam or another"),
        ([[]], "unknown; choose pocket, mobile_sam or another"),
        ("x" * 5000, r"x\.\.\.: unknown; choose pocket, mobile_sam or another"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_names_that_are_none(name: object, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        load(name)
    assert str(caught.value).startswith("model ")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("argument", ["checkpoint", "decoder", "runtime", "device", "dtype", "threads"])
@pytest.mark.parametrize("value", [5.5, float("nan"), [1]], ids=["5.5", "nan", "list"])
def test_arguments_of_another_kind(argument: str, value: object) -> None:
    with pytest.raises(ConfigError, match=argument):
        load(**{argument: value})
