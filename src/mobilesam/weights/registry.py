"""The published weights: names, addresses, checksums and terms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mobilesam.core.errors import ConfigError, WeightsError
from mobilesam.core.text import shortened
from mobilesam.core.types import SAM_THRESHOLDS, MaskThresholds

DEFAULT_MODEL = "pocket"
MEGA = 1_000_000


@dataclass(frozen=True)
class WeightsEntry:
    """One published set of weights.

    Attributes:
        name: what ``load`` calls it.
        network: name in ``networks.build.NETWORKS``; empty for what is not a whole model.
        file: its file name.
        licence: terms of the weights.
        about: one sentence.
        sha256: the file's checksum.
        git_blob: the file's git object id, a SHA-1 over its size and content, if nobody published a SHA-256.
        urls: where it can be fetched, tried in this order; none for what comes with the package.
        size: bytes of the file.
        rounded: whether only a rounded size was published; then the checksum alone decides.
        thresholds: for the masks of everything in an image.
        detector: for a detector of objects, its name in ``networks.build.DETECTORS``; empty for others.
        own: whether these are weights that the user named; nobody published them.
    """

    name: str
    network: str
    file: str
    licence: str
    about: str
    sha256: str = ""
    git_blob: str = ""
    urls: tuple[str, ...] = ()
    size: int = 0
    rounded: bool = False
    thresholds: MaskThresholds = SAM_THRESHOLDS
    detector: str = ""
    own: bool = False

    def __post_init__(self) -> None:
        if (
            not self.file
            or self.file != Path(self.file).name
            or "\\" in self.file
            or self.file.startswith(".")
        ):
            raise WeightsError(f"{self.name}: file {self.file!r}: must be a plain name, without folders")

    @property
    def shipped(self) -> bool:
        """Whether the file comes with the package."""
        return not self.urls and not self.own

    @property
    def largest(self) -> int:
        """The most bytes that are accepted from an address: the size, or twice that if it is rounded."""
        return 2 * self.size if self.rounded else self.size

    @property
    def checksum(self) -> str:
        """The published checksum, with its kind."""
        return f"SHA-256: {self.sha256}" if self.sha256 else f"git blob: {self.git_blob}"


MOBILE_SAM = "https://github.com/ChaoningZhang/MobileSAM/raw"
SEGMENT_ANYTHING = "https://dl.fbaipublicfiles.com/segment_anything"
HUGGING_FACE = "https://huggingface.co"
EFFICIENTVIT_SAM = "https://huggingface.co/mit-han-lab/efficientvit-sam/resolve/main"


def _sam(letter: str, parameters: str, file: str, size: int, sha256: str) -> WeightsEntry:
    return WeightsEntry(
        name=f"sam_vit_{letter}",
        network=f"vit_{letter}",
        file=file,
        sha256=sha256,
        licence="Apache-2.0",
        about=f"Segment Anything as published, image encoder ViT-{letter.upper()}: {parameters} parameters",
        urls=(f"{SEGMENT_ANYTHING}/{file}",),
        size=size,
    )


def _efficientvit_sam(kind: str, megabytes: int, sha256: str) -> WeightsEntry:
    name = f"efficientvit_sam_{kind}"
    return WeightsEntry(
        name=name,
        network=name,
        file=f"{name}.pt",
        sha256=sha256,
        licence="Apache-2.0",
        about=f"EfficientViT-SAM {kind.upper()} as published: distilled from SAM ViT-H, then trained on SA-1B",
        urls=(f"{EFFICIENTVIT_SAM}/{name}.pt",),
        size=megabytes * MEGA,
        rounded=True,
    )


def _hugging_face(
    name: str, network: str, repository: str, megabytes: int, sha256: str, about: str
) -> WeightsEntry:
    return WeightsEntry(
        name=name,
        network=network,
        file=f"{repository.rpartition('/')[2]}.safetensors",
        sha256=sha256,
        licence="Apache-2.0",
        about=about,
        urls=(f"{HUGGING_FACE}/{repository}/resolve/main/model.safetensors",),
        size=megabytes * MEGA,
        rounded=True,
    )


def _sam_model(letter: str, word: str, megabytes: int, sha256: str) -> WeightsEntry:
    about = f"sam_vit_{letter} again, in the form of Hugging Face's transformers"
    return _hugging_face(
        f"sam_vit_{letter}_hf", f"vit_{letter}", f"facebook/sam-vit-{word}", megabytes, sha256, about
    )


def _slimsam(percent: int, megabytes: int, sha256: str) -> WeightsEntry:
    name = f"slimsam_{percent}"
    about = (
        f"SlimSAM as published: SAM ViT-B with {percent} % of the encoder's channels pruned, then distilled"
    )
    return _hugging_face(name, name, f"Zigeng/SlimSAM-uniform-{percent}", megabytes, sha256, about)


ENTRIES = {
    entry.name: entry
    for entry in (
        WeightsEntry(
            name="pocket-7",
            network="pocket",
            file="pocket-7.safetensors",
            sha256="831832a9de83b70d09f7801797db4ad96147ccb81be0a362773ca7d20fee6a8c",
            licence="CC BY 4.0 for the weights; see the model card for the terms of what they were trained on",
            about="small model trained by this project from human masks; no part of it is SAM's or MobileSAM's weights",
            thresholds=MaskThresholds(predicted_iou=0.3, stability_score=0.1),  # by bench/thresholds.py
        ),
        WeightsEntry(
            name="mobile_sam",
            network="vit_t",
            file="mobile_sam.pt",
            sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
            licence="Apache-2.0",
            about="MobileSAM as published: TinyViT distilled from SAM ViT-H",
            urls=(
                f"{MOBILE_SAM}/f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt",
                "https://huggingface.co/dhkim2810/MobileSAM/resolve/main/mobile_sam.pt",
                "https://github.com/ultralytics/assets/releases/download/v8.3.0/mobile_sam.pt",
            ),
            size=40_728_226,
        ),
        _sam(
            "b",
            "94 million",
            "sam_vit_b_01ec64.pth",
            375_042_383,
            "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        ),
        _sam(
            "l",
            "312 million",
            "sam_vit_l_0b3195.pth",
            1_249_524_607,
            "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        ),
        _sam(
            "h",
            "641 million",
            "sam_vit_h_4b8939.pth",
            2_564_550_879,
            "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        ),
        _efficientvit_sam("l0", 139, "c4f994b01a16d48bcf2fbbb089448cfbf58fae5811edfa8113c953b8b8cc64b8"),
        _efficientvit_sam("l1", 191, "fa151df2b9b96896accd505470755cdd293a4c50cdabac95478f3fbd86d9152b"),
        _efficientvit_sam("l2", 246, "d4bfd842224cbb99de09acc3325e81ac5b7e8725c8fbdab152305e5d934bfe4a"),
        _sam_model("b", "base", 375, "892c410e496344e527255ccdcb2cb7244a609acb5389c7c4fdba1288f861c579"),
        _sam_model("l", "large", 1_250, "a57e1b13cd1545938dfcbc9fb26df7f60de6650237a9383382a874a623564b81"),
        _sam_model("h", "huge", 2_560, "edfb0462392541fca9af44ff039bfb32dbd0c939997f3abb77a26e23af7afd7c"),
        _slimsam(50, 112, "c6146291d993f315ae1951e1209555d6c9dea1404546dc54edbc3f15fb1d8e69"),
        _slimsam(77, 39, "b0ee221e3d33935807a820c157fec81a537b3b9979edc88b148a8dae8bbdd5d2"),
        WeightsEntry(
            name="detector_nano",
            network="",
            detector="detector_nano",
            file="detector_nano.safetensors",
            sha256="ea200f5c2182438f528d60f51fc4462039b95e1195a68c8079f70821ffcd5b7f",
            licence="CC BY 4.0 for the weights; see the model card for the terms of what they were trained on",
            about="detector of objects for segmenting everything, trained by this project from YOLOX-nano's weights",
        ),
        WeightsEntry(
            name="pocket_subject",
            network="",
            file="pocket_subject.safetensors",
            sha256="1062a8c447996ecb011d4f1c4bc36831dc929c3b7e4a2b65a7306676ea4e4d9c",
            licence="CC BY 4.0 for the weights; see the model card for the terms of what they were trained on",
            about="head on pocket-7's features that finds a photo's subject, trained by this project",
        ),
        WeightsEntry(
            name="prompt_guided_decoder",
            network="",
            file="Prompt_guided_Mask_Decoder.pt",
            git_blob="c13b15a3a4496dbcba5f4f0d3e8453f41d818420",
            licence="Apache-2.0",
            about="MobileSAMv2's prompt encoder and mask decoder alone; checked by its git object id (SHA-1)",
            urls=(f"{MOBILE_SAM}/master/MobileSAMv2/PromptGuidedDecoder/Prompt_guided_Mask_Decoder.pt",),
            size=16 * MEGA,  # not published: 4.06 million parameters of 4 bytes
            rounded=True,
        ),
    )
}
ALIASES = {
    "pocket": "pocket-7",
    "vit_t": "mobile_sam",
    "vit_b": "sam_vit_b",
    "vit_l": "sam_vit_l",
    "vit_h": "sam_vit_h",
}
# Ultralytics' names for files of the same weights, without their ending.
ALSO_CALLED = {"sam_b": "sam_vit_b", "sam_l": "sam_vit_l", "sam_h": "sam_vit_h"}
ENDINGS = (".pt", ".pth", ".safetensors")
# Files of other networks that people ask for, by how their names begin, and what to do.
OTHER_NETWORKS = (
    ("fastsam", "FastSAM, another architecture, which is not read"),
    ("sam2", "SAM 2, another architecture, which is not read"),
    ("yolo", "a detector, not a model; export it to ONNX and give it as detector to everything()"),
)
# Published weights that are not offered, and why.
NOT_OFFERED = {
    "object_aware_model": "MobileSAMv2's ObjectAwareModel.pt is a pickled program under AGPL-3.0, "
    "and reading it would run its code; it is never fetched or opened",
}


def entry_of(name: str) -> WeightsEntry:
    """Return the entry called ``name``, by name or alias.

    Raises:
        ConfigError: for an unknown name, or one that is not offered.
    """
    entry = ENTRIES.get(ALIASES.get(name, name)) if isinstance(name, str) else None
    if entry is not None:
        return entry
    if isinstance(name, str) and name in NOT_OFFERED:
        raise ConfigError(f"model {name!r}: {NOT_OFFERED[name]}")
    raise ConfigError(f"model {shortened(name)}: {_what_is_meant(name)}")


def _what_is_meant(name: object) -> str:
    """Say what to do with a name that no model has; often it is a weights file's name."""
    stem = (
        name.removesuffix(next((end for end in ENDINGS if name.endswith(end)), ""))
        if isinstance(name, str)
        else ""
    )
    for entry in ENTRIES.values():
        if name == entry.file or ALSO_CALLED.get(stem, ALIASES.get(stem, stem)) == entry.name:
            return f"is a file's name; the model is {entry.name!r}, and a file of your own is its checkpoint=FILE"
    for start, what in OTHER_NETWORKS:
        if stem.lower().startswith(start):
            return f"is {what}; the default model is {DEFAULT_MODEL!r}"
    if isinstance(name, str) and stem != name:
        return "is a file's name; give the model of its network, and the file as checkpoint=FILE; mobilesam info lists the models"
    return "unknown; choose pocket, mobile_sam or another one that mobilesam info lists"
