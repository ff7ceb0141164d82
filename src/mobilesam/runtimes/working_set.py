"""How much memory a network's steps take, so that a budget can say how much is done at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WorkingSet:
    """Bytes that steps add at their peak: those of the hungrier runtime in float32, rounded up.

    ``bench/memory.py`` measures them.

    Attributes:
        image: what the encoder takes for each image.
        prompt: what the decoder takes for each prompt.
        slot: and for each point, pad and box corner of it.
    """

    image: int
    prompt: int
    slot: int

    def of_prompt(self, slots: int) -> int:
        """Bytes for one prompt of so many slots."""
        return self.prompt + self.slot * slots


MB = 1_000_000
SAM_DECODER = {"prompt": 40 * MB, "slot": 300_000}
WORKING_SETS = {
    "pocket": WorkingSet(260 * MB, prompt=15 * MB, slot=100_000),
    "vit_t": WorkingSet(400 * MB, **SAM_DECODER),
    "vit_b": WorkingSet(3_300 * MB, **SAM_DECODER),
    "vit_l": WorkingSet(4_400 * MB, **SAM_DECODER),
    "vit_h": WorkingSet(4_600 * MB, **SAM_DECODER),
    "efficientvit_sam_l0": WorkingSet(200 * MB, **SAM_DECODER),
    "efficientvit_sam_l1": WorkingSet(200 * MB, **SAM_DECODER),
    "efficientvit_sam_l2": WorkingSet(200 * MB, **SAM_DECODER),
}
