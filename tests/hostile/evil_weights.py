"""Files of weights that are damaged, misleading or malicious, each made by a few lines and a seed.

A maker gets a path (its suffix is the case's), the weights of ``pocket`` and a random generator.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save

from mobilesam.weights.graph_index import GRAPHS

Tensors = dict[str, np.ndarray]
Maker = Callable[[Path, Tensors, np.random.Generator], None]
CANARY = "canary"  # what code in a file would make in the working folder
BIG = 2**30


@dataclass(frozen=True)
class Case:
    """One file.

    Attributes:
        name: row of the catalogue and what it is.
        file: its name.
        make: writes it.
        says: regular expression that the refusal contains.
    """

    name: str
    file: str
    make: Maker
    says: str


class Evil:
    def __reduce__(self) -> tuple:
        return os.system, (f"touch {CANARY}",)


# ------------------------------------------------------------------ PyTorch files


def plain(value: object) -> bytes:
    """Return the instructions that make a number, text or tuple of these."""
    return pickle.dumps(value, 2)[2:-1]


def reference(kind: str = "FloatStorage", key: str = "0", count: int = 16) -> bytes:
    return (
        b"("
        + plain("storage")
        + b"ctorch\n"
        + kind.encode()
        + b"\n"
        + plain(key)
        + plain("cpu")
        + plain(count)
        + b"tQ"
    )


def tensor(size: tuple, stride: tuple, offset: object = 0, kind: str = "FloatStorage") -> bytes:
    head = b"ctorch._utils\n_rebuild_tensor_v2\n("
    return head + reference(kind) + plain(offset) + plain(size) + plain(stride) + b"\x89)tR"


def state(*pairs: tuple[str, bytes]) -> bytes:
    return b"\x80\x02}(" + b"".join(plain(name) + value for name, value in pairs) + b"u."


def zipped(entries: dict[str, bytes]) -> Maker:
    def make(path: Path, tensors: Tensors, rng: np.random.Generator) -> None:
        with zipfile.ZipFile(path, "w") as file:
            for name, content in entries.items():
                file.writestr(name, content)

    return make


def pickled(content: bytes) -> Maker:
    return zipped({"a/data.pkl": content, "a/data/0": bytes(64)})


def one(value: bytes) -> Maker:
    return pickled(state(("a", value)))


def calls(name: bytes, arguments: bytes = b"(") -> Maker:
    return one(b"c" + name + b"\n" + arguments + plain(f"touch {CANARY}") + b"tR")


def saved(content: object, **options: object) -> Maker:
    return lambda path, tensors, rng: torch.save(content, path, **options)


def good_torch_file(tensors: Tensors) -> bytes:
    buffer = io.BytesIO()
    torch.save({name: torch.from_numpy(array) for name, array in tensors.items()}, buffer)
    return buffer.getvalue()


def truncated(part: float) -> Maker:
    def make(path: Path, tensors: Tensors, rng: np.random.Generator) -> None:
        data = good_torch_file(tensors)
        path.write_bytes(data[: int(part * len(data))])

    return make


def flipped(path: Path, tensors: Tensors, rng: np.random.Generator) -> None:
    data = bytearray(good_torch_file(tensors))
    numbers = tensors[NAME].tobytes()  # between the tensors there is padding, where a bit means nothing
    data[data.find(numbers) + int(rng.integers(len(numbers)))] ^= 1
    path.write_bytes(data)


def old_tar(path: Path, tensors: Tensors, rng: np.random.Generator) -> None:
    with tarfile.open(path, "w") as file:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            file.addfile(tarfile.TarInfo(name), io.BytesIO())


def deflated(path: Path, tensors: Tensors, rng: np.random.Generator) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr("archive/data.pkl", ARRAY)
        with file.open("archive/data/0", "w") as entry:
            for _ in range(200):
                entry.write(bytes(2**20))


def many_entries(path: Path, tensors: Tensors, rng: np.random.Generator) -> None:
    """A directory of a million entries: 46 bytes and a name of one for each."""
    entry = struct.pack("<4s4B4H3L5H2L", b"PK\1\2", 20, 3, 20, *[0] * 8, 1, *[0] * 6)
    directory = (entry + b"a") * 10**6
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 10**6, 10**6, len(directory), 0)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, len(directory), 1)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path.write_bytes(directory + record + locator + end)


def wrong_directory(path: Path, tensors: Tensors, rng: np.random.Generator) -> None:
    data = bytearray(good_torch_file(tensors))
    start = data.rfind(b"PK\1\2")
    data[start + 10 : start + 46] = rng.bytes(36)
    path.write_bytes(data)


def overlapping_entries(path: Path, tensors: Tensors, rng: np.random.Generator) -> None:
    """Two hundred directory entries over one storage."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", ARRAY)
        file.writestr("archive/data/0", bytes(2**20))
        for number in range(1, 200):
            copy = zipfile.ZipInfo(f"archive/data/{number}")
            copy.file_size = copy.compress_size = 2**20
            copy.CRC, copy.header_offset = file.filelist[1].CRC, file.filelist[1].header_offset
            file.filelist.append(copy)
    path.write_bytes(buffer.getvalue())


def torch_script(path: Path, tensors: Tensors, rng: np.random.Generator) -> None:
    made = b"\x80\x02c__torch__\nNet\n)\x81."
    zipped({"a/data.pkl": made, "a/constants.pkl": made, "a/code/__torch__.py": b""})(path, tensors, rng)


def zip_in_zip(path: Path, tensors: Tensors, rng: np.random.Generator) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Evil(), 2))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("inner.pt", buffer.getvalue())


def nested(depth: int) -> bytes:
    return b"\x80\x02" + b"}" + (plain("a") + b"}") * depth + b"s" * depth + b"."


def doubling(levels: int) -> bytes:
    """A storage's name that is a tuple of two tuples, each the same one of two: 2 ** levels texts."""
    nest = plain("k") + b"q\x00"
    for i in range(levels):
        nest += b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1])
    return (
        b"\x80\x02" + nest + b"(" + plain("storage") + b"ctorch\nFloatStorage\nh" + bytes([levels]) + b"tQ."
    )


def copied(value: bytes, copies: int) -> bytes:
    """A dictionary of a list in which one value stands many times."""
    return b"\x80\x02" + value + b"q\x00ccollections\nOrderedDict\n](" + b"h\x00" * copies + b"e\x85R."


SHARED = b"\x63"  # a place in the memo that `plain`'s texts leave alone


def dictionary(*names: str) -> bytes:
    return b"}" + b"".join(plain(name) + b"Ns" for name in names)


def tensors_in_one(count: int) -> bytes:
    """A dictionary of one tensor under several names."""
    first = plain("t") + tensor((4, 4), (4, 1)) + b"q" + SHARED + b"s"
    return b"}" + first + b"".join(plain(f"t{i}") + b"h" + SHARED + b"s" for i in range(1, count))


def under_each(inner: bytes, *names: str) -> bytes:
    """One dictionary under several names."""
    first = plain(names[0]) + inner + b"q" + SHARED + b"s"
    return b"\x80\x02}" + first + b"".join(plain(n) + b"h" + SHARED + b"s" for n in names[1:]) + b"."


ESCAPING = {f"../../{CANARY}": b"x", f"/tmp/{CANARY}-of-weights": b"x"}


# ------------------------------------------------------------------ safetensors


def header(text: bytes, length: int | None = None, data: bytes = b"") -> Maker:
    return content((len(text) if length is None else length).to_bytes(8, "little") + text + data)


def described(*entries: tuple[str, object, object, object], data: int = 16) -> Maker:
    """A header of (name, type, shape, offsets), which may repeat names."""
    parts = [
        f"{json.dumps(name)}:{json.dumps({'dtype': kind, 'shape': shape, 'data_offsets': offsets})}"
        for name, kind, shape, offsets in entries
    ]
    text = "{" + ",".join(parts) + "}"
    return header(text.ljust(-(-len(text) // 8) * 8).encode(), data=bytes(range(data)))


def pocket_with(change: Callable[[Tensors], Tensors]) -> Maker:
    def make(path: Path, tensors: Tensors, rng: np.random.Generator) -> None:
        path.write_bytes(save(change(dict(tensors))))

    return make


def other_network(*shapes: tuple[str, tuple[int, ...]]) -> Maker:
    """Tensors by which another network is known."""

    def make(path: Path, tensors: Tensors, rng: np.random.Generator) -> None:
        path.write_bytes(
            save({name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes})
        )

    return make


# ------------------------------------------------------------------ what is no file, or no weights


def link_to(target: str) -> Maker:
    return lambda path, tensors, rng: path.symlink_to(target)


def content(data: bytes) -> Maker:
    def make(path: Path, tensors: Tensors, rng: np.random.Generator) -> None:
        path.write_bytes(data)

    return make


def sparse(size: int) -> Maker:
    def make(path: Path, tensors: Tensors, rng: np.random.Generator) -> None:
        with path.open("wb") as file:
            file.truncate(size)

    return make


NAME = "mask_decoder.iou_token.weight"
ARRAY = state(("a", tensor((4, 4), (4, 1))))
NUMBERS = np.arange(16, dtype="<f4").tobytes()
PLAIN_REFUSAL = "not a plain state dict"
# fmt: off
CASES = [
    Case("W01 missing", "a.pt", lambda path, tensors, rng: None, "not found; give the path"),
    Case("W02 no bytes", "a.pt", content(b""), "neither a PyTorch checkpoint"),
    Case("W02 no bytes, safetensors", "a.safetensors", content(b""), "damaged"),
    Case("W02 one byte", "a.pt", content(b"P"), "neither"),
    Case("W02 folder", "a.pt", lambda path, tensors, rng: path.mkdir(), "is not a file"),
    Case("W02 pipe", "a.pt", lambda path, tensors, rng: os.mkfifo(path), "is not a file"),
    Case("W02 endless device", "a.pt", link_to("/dev/zero"), "is not a file"),
    Case("W02 link to itself", "a.pt", link_to("a.pt"), "cannot be read"),
    Case("W02 eight gigabytes of nothing", "a.pt", sparse(8 * BIG), "files up to"),
    Case("W02 three gigabytes of nothing", "a.pt", sparse(3 * BIG), "neither"),
    *(Case(f"W03 os.system, protocol {p}", "a.pt", pickled(pickle.dumps({"a": Evil()}, p)), PLAIN_REFUSAL)
      for p in range(6)),
    Case("W03 os.system as raw pickle", "a.pt", content(pickle.dumps(Evil(), 2)), "convert it"),
    Case("W04 builtins.eval", "a.pt", calls(b"builtins\neval"), r"asks for builtins\.eval"),
    Case("W04 a module of torch", "a.pt", calls(b"torch.nn\nModule"), r"asks for torch\.nn\.Module"),
    Case("W04 another name of an allowed module", "a.pt", calls(b"collections\nnamedtuple"), "namedtuple"),
    Case("W04 a path through an allowed name", "a.pt",
         pickled(b"\x80\x04\x8c\x0bcollections\x8c\x1aOrderedDict.fromkeys.__self__\x93."), "damaged|asks for"),
    Case("W04 getattr chain", "a.pt", calls(b"builtins\ngetattr"), "getattr"),
    Case("W04 functools.partial", "a.pt", calls(b"functools\npartial"), "partial"),
    Case("W04 a storage's class called", "a.pt", calls(b"torch\nFloatStorage"), r"calls torch\.FloatStorage"),
    Case("W04 attributes for an allowed function", "a.pt",
         one(b"ctorch._utils\n_rebuild_tensor_v2\n}" + plain("__defaults__") + b")sb"), PLAIN_REFUSAL),
    Case("W04 state for an array", "a.pt", one(tensor((4, 4), (4, 1)) + b")b"), PLAIN_REFUSAL),
    Case("W04 a dictionary of what is none", "a.pt", one(b"ccollections\nOrderedDict\n(K\x05tR"), "dictionary of a list"),
    Case("W04 instruction INST", "a.pt", one(b"(" + plain("x") + b"ios\nsystem\n"), "instruction INST"),
    Case("W04 instruction NEWOBJ", "a.pt", one(b"ccollections\nOrderedDict\n)\x81"), "instruction NEWOBJ"),
    Case("W04 instruction EXT1", "a.pt", one(b"\x82\x01"), "instruction EXT1"),
    Case("W04 memo of two thousand million places", "a.pt", pickled(b"\x80\x02}r\xff\xff\xff\x7f."), "holds no state dict"),
    Case("W04 text of four gigabytes claimed", "a.pt", pickled(b"\x80\x02}X\xff\xff\xff\xffa."), "damaged"),
    Case("W04 bytes of a terabyte claimed", "a.pt", pickled(b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"a."), "damaged"),
    Case("W04 nothing on the stack", "a.pt", pickled(b"\x80\x02R."), "its pickle is damaged"),
    Case("W04 no mark", "a.pt", pickled(b"\x80\x02u."), "its pickle is damaged"),
    Case("W04 no end", "a.pt", pickled(b"\x80\x02}"), "damaged"),
    Case("W05 form before 1.6", "a.pt", saved({"a": torch.ones(3)}, _use_new_zipfile_serialization=False), "convert it"),
    Case("W05 tar form", "a.pt", old_tar, "convert it"),
    Case("W06 a whole module", "a.pt", saved(torch.nn.Linear(2, 2)), r"asks for torch\.nn\.modules\.linear\.Linear"),
    Case("W06 TorchScript", "a.pt", torch_script, r"asks for __torch__\.Net"),
    Case("W06 exported program", "a.pt2", zipped({"m/models/model.json": b"{}"}), "0 state dicts"),
    Case("W07 pickle in the place of numbers", "a.pt",
         zipped({"a/data.pkl": ARRAY, "a/data/0": pickle.dumps(Evil(), 2).ljust(64)}),
         "not finite|not the weights"),
    Case("W07 archive in an archive", "a.pt", zip_in_zip, "0 state dicts"),
    *(Case(f"W08 the first {part:.0%}", "a.pt", truncated(part), "damaged") for part in np.linspace(0.05, 0.95, 10)),
    Case("W09 wrong directory", "a.pt", wrong_directory, "damaged"),
    Case("W09 overlapping entries", "a.pt", overlapping_entries, "entries larger than the file"),
    Case("W09 a million entries", "a.pt", many_entries, "directory is too large"),
    Case("W10 200 MB in 1 MB", "a.pt", deflated, "compressed entries"),
    Case("W11 names that lead out", "a.pt",
         zipped({"a/data.pkl": ARRAY, "a/data/0": NUMBERS} | ESCAPING), "not the weights of this network"),
    Case("W12 a byte flipped in the numbers", "a.pt", flipped, "damaged"),
    Case("W14 not a number", "a.safetensors", pocket_with(lambda t: t | {NAME: np.full_like(t[NAME], np.nan)}), r"tensor mask_decoder\.iou_token\.weight has 128 values that are not finite"),
    Case("W14 infinite", "a.safetensors", pocket_with(lambda t: t | {NAME: np.full_like(t[NAME], np.inf)}), "not finite"),
    Case("W14 infinite in float32", "a.safetensors", pocket_with(lambda t: t | {NAME: np.full(t[NAME].shape, 1e300)}), "not finite"),
    Case("W15 all zero", "a.safetensors", pocket_with(lambda t: {n: np.zeros_like(a) for n, a in t.items()}), "every tensor is constant"),
    Case("W16 a shape", "a.safetensors", pocket_with(lambda t: t | {NAME: np.zeros((1, 9), np.float32)}), rf"1 of \d+ tensors have other shapes \(here/wanted\): {NAME} 1x9/1x\d+$"),
    Case("W16 all shapes", "a.safetensors", pocket_with(lambda t: {n: np.arange(3, dtype=np.float32) for n in t}), r"(\d+) of \1 tensors have other shapes \(here/wanted\): \S+ 3/\S+, \S+ 3/\S+ \(and \d+ more\)$"),
    Case("W17 one missing", "a.safetensors", pocket_with(lambda t: {n: a for n, a in t.items() if n != NAME}), f"lacks {NAME}"),
    Case("W17 one too many", "a.safetensors", pocket_with(lambda t: t | {"ema.weight": np.ones(3, np.float32)}), r"also has ema\.weight"),
    Case("W17 half of the names missing", "a.safetensors", pocket_with(lambda t: dict(sorted(t.items())[::2])), r"lacks .* more\)"),
    Case("W18 SAM ViT-B", "a.safetensors", other_network(("image_encoder.patch_embed.proj.weight", (768, 3, 16, 16))), "holds SAM vit_b, not pocket; load it as sam_vit_b"),
    Case("W18 SAM ViT-H", "a.safetensors", other_network(("image_encoder.patch_embed.proj.weight", (1280, 3, 16, 16))), "holds SAM vit_h, not pocket; load it as sam_vit_h"),
    Case("W18 MobileSAM", "a.safetensors", other_network(("image_encoder.patch_embed.seq.0.c.weight", (32, 3, 3, 3))), "holds MobileSAM's vit_t"),
    Case("W18 EfficientViT-SAM", "a.safetensors", other_network(("image_encoder.backbone.stages.0.op_list.0.conv.weight", (32, 3, 3, 3))), "holds EfficientViT-SAM L0, not pocket; load it as efficientvit_sam_l0"),
    Case("W18 SAM 2", "a.safetensors", other_network(("memory_attention.norm.weight", (32,))), "holds SAM 2, another architecture"),
    Case("W18 MobileSAMv2's decoder", "a.pt", saved({"PromtEncoder": {"w": torch.arange(3.0)}, "MaskDecoder": {"w": torch.arange(3.0)}}), "holds MobileSAMv2's decoder alone"),
    Case("W18 a detector", "a.safetensors", other_network(("model.22.dfl.conv.weight", (1, 16))), "holds an object detector"),
    Case("W19 whole numbers", "a.safetensors", pocket_with(lambda t: t | {NAME: np.ones(t[NAME].shape, np.int8)}), "numbers of type int8"),
    Case("W19 complex", "a.pt", saved({"a": torch.ones(3, dtype=torch.complex64)}), PLAIN_REFUSAL),
    Case("W19 sparse", "a.pt", saved({"a": torch.ones(3, 3).to_sparse()}), PLAIN_REFUSAL),
    Case("W20 a thousand copies of one storage", "a.pt",
         zipped({"a/data.pkl": state(*((f"t{i}", tensor((2**18,), (1,))) for i in range(1000))), "a/data/0": bytes(2**20)}), "tensors are larger than the file"),
    Case("W20 a thousand references to one bfloat16 storage", "a.pt",
         zipped({"a/data.pkl": state(*((f"t{i}", reference("BFloat16Storage")) for i in range(1000))), "a/data/0": bytes(2**20)}), "entry 't0' is not a tensor"),
    Case("W20 negative stride", "a.pt", one(tensor((4, 4), (4, -1))), "shape is not valid"),
    Case("W20 negative offset", "a.pt", one(tensor((4, 4), (4, 1), offset=-3)), "shape is not valid"),
    Case("W20 beyond the storage", "a.pt", one(tensor((4, 5), (5, 1))), "beyond its storage"),
    Case("W21 2^40 by stride 0", "a.pt", one(tensor((2**20, 2**20), (0, 0))), "beyond its storage"),
    Case("W21 none by 2^62", "a.pt", one(tensor((0, 2**62), (1, 1))), "damaged|constant|not a plain"),
    Case("W22 dictionaries 200 deep", "a.pt", pickled(nested(200)), "is not a tensor"),
    Case("W22 dictionaries 20,000 deep", "a.pt", pickled(nested(20_000)), "over 10,000 values open"),
    Case("W22 dictionaries 50,000 deep", "a.pt", pickled(nested(50_000)), "over 10,000 values open"),
    Case("W22 half a million values", "a.pt", pickled(b"\x80\x02" + b"N" * 500_000 + b"."), "over 10,000 values open"),
    Case("W22 two hundred thousand instructions", "a.pt", pickled(b"\x80\x02}" + b"q\x00" * 200_000 + b"."), "over 80,000 instructions"),
    Case("W22 a million names", "a.pt", pickled(state(*((f"{i:06}", b"N") for i in range(10**6)))), "list of tensors is over"),
    Case("W22 a storage's name of 2^40 texts", "a.pt", pickled(doubling(40)), "not a tensor's storage"),
    Case("W22 a dictionary of one long text, three thousand times", "a.pt", pickled(copied(plain("a" * 200_000), 3000)), "dictionary of a list"),
    Case("W22 a long name over ten thousand short ones", "a.pt", pickled(under_each(dictionary(*map(str, range(10_000))), "a" * 300_000)), "not a text of up to 500"),
    Case("W22 one dictionary under two hundred names", "a.pt", pickled(under_each(tensors_in_one(200), *map(str, range(200)))), "over 20,000 tensors"),
    Case("W22 a number as a name", "a.pt", pickled(b"\x80\x02}K\x01" + tensor((4, 4), (4, 1)) + b"s."), "not a text of up to 500"),
    Case("W22 a tuple as a name", "a.pt", pickled(b"\x80\x02})Ns."), "tuple as a name"),
    *(Case(f"W23 header of {n} bytes claimed", "a.safetensors", header(b'{"a":1}', length=n), "damaged")
      for n in (0, 1, 8, 99_000_000, 2**63, 2**64 - 1)),
    Case("W24 not UTF-8", "a.safetensors", header(b"\xff\xfe\x00{}"), "damaged"),
    Case("W24 not JSON", "a.safetensors", header(b"{hello there}"), "damaged"),
    Case("W24 a list", "a.safetensors", header(b"[1, 2, 3]"), "damaged"),
    Case("W24 100,000 brackets", "a.safetensors", header(b"[" * 100_000), "damaged"),
    Case("W24 90 MB of JSON", "a.safetensors", header(b'{"a":"' + b"a" * 90_000_000 + b'"}'), "header would have"),
    Case("W25 a name twice", "a.safetensors", described(("a", "F32", [2], [0, 8]), ("a", "F32", [2], [8, 16])), "twice"),
    Case("W25 overlapping tensors", "a.safetensors", described(("a", "F32", [3], [0, 12]), ("b", "F32", [2], [8, 16])), "damaged"),
    Case("W25 a hole", "a.safetensors", described(("a", "F32", [1], [0, 4]), ("b", "F32", [1], [12, 16])), "damaged"),
    Case("W25 bytes after the end", "a.safetensors", described(("a", "F32", [2], [0, 8])), "damaged"),
    Case("W26 no numbers at another's place", "a.safetensors", described(("a", "F32", [0], [8, 8]), ("b", "F32", [4], [0, 16])), "damaged|not the weights|not finite"),
    Case("W27 product over 2^64", "a.safetensors", described(("a", "F32", [2**33, 2**33], [0, 16])), "damaged"),
    Case("W27 negative side", "a.safetensors", described(("a", "F32", [-4], [0, 16])), "damaged"),
    Case("W27 half a side", "a.safetensors", described(("a", "F32", [4.5], [0, 16])), "damaged"),
    Case("W27 ten thousand sides", "a.safetensors", described(("a", "F32", [1] * 9999 + [4], [0, 16])), "damaged"),
    Case("W27 ten thousand sides, PyTorch", "a.pt", one(tensor((2,) * 10_000, (1,) * 10_000)), "shape is not valid"),
    Case("W27 sides of 2,000 bits", "a.pt", one(tensor((2**2000, 2), (1, 1))), "shape is not valid"),
    Case("W28 unknown type", "a.safetensors", described(("a", "F33", [4], [0, 16])), "damaged"),
    Case("W28 not aligned", "a.safetensors", header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,3]}}', data=b"abc"), "damaged"),
    Case("W29 metadata of numbers", "a.safetensors", header(b'{"__metadata__":{"a":1}}'), "damaged"),
    Case("W29 metadata of 10 MB", "a.safetensors", header(b'{"__metadata__":{"a":"' + b"x" * 10**7 + b'"}}'), "header would have"),
    Case("W29 terminal codes in a name", "a.safetensors", other_network(("\x1b[2J\x1b]0;x\x07", (3,))), "also has"),
    Case("W56 a later version's", "a.safetensors", header(b'{"__metadata__":{"mobilesam_needs":"99.1"}}'), r"needs mobilesam >= 99\.1, this is \d+\.\d+.*; pip install --upgrade mobilesam"),
    Case("W56 no version", "a.safetensors", header(b'{"__metadata__":{"mobilesam_needs":"soon\\u001b[2J"}}'), "needs mobilesam >= soon"),
    Case("W57 an ONNX file", "a.pt", content((GRAPHS / "pocket-decoder.onnx").read_bytes()), "is an ONNX file; weights are a .pt or .safetensors file"),
    Case("W58 nonsense named as an ONNX file", "a.onnx", content(b"hello"), "is an ONNX file"),
    Case("W33 a web page", "a.pt", content(b"<!DOCTYPE html><title>Sign in</title>"), "neither"),
    Case("big-endian numbers", "a.pt",
         zipped({"a/data.pkl": ARRAY, "a/data/0": bytes(64), "a/byteorder": b"big"}), "big-endian"),
]
# fmt: on
