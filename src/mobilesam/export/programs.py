"""Which programs files can be written for, and what each expects. No package of the extra is needed to know."""

from __future__ import annotations

from dataclasses import dataclass

LOW_RES = 256  # side of SAM's low-resolution masks
YAML = """\
type: segment_anything
name: {name}
display_name: {called} (mobilesam)
encoder_model_path: {encoder}
decoder_model_path: {decoder}
input_size: 1024
max_width: 1024
max_height: 684
"""


@dataclass(frozen=True)
class Layout:
    """What a program expects.

    Attributes:
        single_mask: whether the decoder chooses one mask, as SAM's ``--return-single-mask`` does; else it gives all four.
        low_res: side of ``low_res_masks``; the network's own where 0.
        yaml: whether the program is told of the files by one of its own.
    """

    single_mask: bool
    low_res: int = LOW_RES
    yaml: bool = False


LAYOUTS = {
    "samexporter": Layout(single_mask=True, low_res=0),  # it makes its masks from these
    "x-anylabeling": Layout(single_mask=True, yaml=True),
    "sam": Layout(single_mask=False),
}
