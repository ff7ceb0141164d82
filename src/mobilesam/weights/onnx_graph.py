"""An ONNX file as bytes: whether it is one, and whether it asks for other files.

The format is protobuf: a message is a row of fields, each with a number, a kind and a value. Only
messages that can hold a tensor are entered, because only a tensor can name another file. The size
of everything else is bounded, because two bytes can describe an empty message that takes hundreds
once it is read.
"""

from __future__ import annotations

from collections.abc import Iterator

MAX_FIELDS = 300_000  # a graph of SAM ViT-H has 20,565
MAX_OTHER_BYTES = 2**25  # of everything but tensors' numbers: names, types, attributes
MAX_VARINT = 10  # bytes
VARINT, FIXED64, TEXT, FIXED32 = 0, 1, 2, 5  # protobuf's kinds of value

# For each message, the fields that hold a message to enter, by ONNX's numbers.
ENTERED = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
GRAPH, TENSOR_NAME, EXTERNAL_DATA, DATA_LOCATION = 7, 8, 13, 14
# Fields of a tensor whose numbers take no more room once read: floats, raw bytes, doubles.
NUMBERS = (4, 9, 10)
MODEL_STARTS = (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42)  # what may follow the format's version


class OnnxDamaged(ValueError):
    """The bytes are not an ONNX file, or not a complete one; the message is the reason."""


def is_onnx(start: bytes) -> bool:
    """Whether a file with this start is probably an ONNX file, as all common tools write them."""
    return len(start) > 2 and start[0] == 8 and 0 < start[1] < 64 and start[2] in MODEL_STARTS


def external_tensor(data: bytes) -> str | None:
    """Return the name of the first tensor whose numbers are in another file, or None.

    Raises:
        OnnxDamaged: if the bytes are not those of an ONNX file, or describe too much.
    """
    left = [("model", memoryview(data))]
    fields, other, has_graph = 0, 0, False
    while left:
        message, content = left.pop()
        name, external = "", False
        for number, value, inside in _fields(content):
            fields += 1
            if inside is not None and number in ENTERED[message]:
                left.append((ENTERED[message][number], inside))
                has_graph |= message == "model" and number == GRAPH
            elif message == "tensor" and number in (EXTERNAL_DATA, DATA_LOCATION):
                external |= number == EXTERNAL_DATA or value != 0
            elif inside is not None and not (message == "tensor" and number in NUMBERS):
                other += len(inside)
                if message == "tensor" and number == TENSOR_NAME:
                    name = str(inside[:60], "utf-8", "replace")
            if fields > MAX_FIELDS or other > MAX_OTHER_BYTES:
                raise OnnxDamaged("it describes more than any network has")
        if external:
            return name
    if not has_graph:
        raise OnnxDamaged("it has no graph")
    return None


def _fields(content: memoryview) -> Iterator[tuple[int, int, memoryview | None]]:
    """Yield the number of each field of a message, and its value: a number, or bytes and their count."""
    place = 0
    while place < len(content):
        tag, place = _varint(content, place)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, place = _varint(content, place)
            yield number, value, None
            continue
        if kind == TEXT:
            length, place = _varint(content, place)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise OnnxDamaged("a part of it is of no known kind")
        if length > len(content) - place:
            raise OnnxDamaged("a part of it ends beyond the file")
        yield number, length, content[place : place + length]
        place += length


def _varint(content: memoryview, place: int) -> tuple[int, int]:
    """Read a number with seven bits in each byte, lowest first; return it and where it ends."""
    value = 0
    for shift, byte in enumerate(content[place : place + MAX_VARINT]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, place + shift + 1
    raise OnnxDamaged("a number in it does not end")
