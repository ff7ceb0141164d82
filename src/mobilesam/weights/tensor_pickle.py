"""Read the pickle of a PyTorch checkpoint without running any of it.

Python's own reader calls whatever a pickle names. This is a separate interpreter: it knows
numbers, texts, tuples, lists, dictionaries, tensors and parameters, and refuses every
other name and instruction.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mobilesam.core.text import printable

MAX_INSTRUCTIONS = 80_000  # a checkpoint of SAM ViT-H has 18,400, and 72,400 with its optimiser
MAX_STACK = 10_000  # Python fills a dictionary with 1,000 names and values at a time
MAX_DIMENSIONS = 32  # NumPy 1's own limit; it also keeps a shape's product a small number
# Storage classes that a checkpoint may name. bfloat16 is widened below: NumPy has none.
STORAGES: dict[str, np.dtype] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype("<u2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "ByteStorage": np.dtype("u1"),
    "CharStorage": np.dtype("i1"),
    "BoolStorage": np.dtype("?"),
}
DICTIONARY, TENSOR, PARAMETER = (
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
)
NAMES = {DICTIONARY, TENSOR, PARAMETER} | {f"torch.{name}" for name in STORAGES}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"}
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class PickleRefused(Exception):
    """A pickle that is damaged or wants more than tensors; the message is the reason."""


@dataclass(frozen=True)
class _Name:
    """A class or function that a pickle names: only the name, nothing that could be called."""

    text: str


@dataclass(frozen=True)
class _Storage:
    """The numbers that tensors refer to; by themselves they are not a tensor."""

    numbers: np.ndarray


def read_tensor_pickle(pickled: bytes, read_storage: Callable[[str], bytes], max_bytes: int) -> Any:
    """Return what a pickle describes: dictionaries, lists and tuples of arrays, numbers and texts.

    Args:
        pickled: the pickle.
        read_storage: returns the raw numbers that a tensor refers to.
        max_bytes: the most bytes that all tensors together may take.

    Raises:
        PickleRefused: for names and instructions that no state dict needs.
    """
    machine = _Machine(read_storage, max_bytes)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(pickled)):
        if count == MAX_INSTRUCTIONS:
            raise PickleRefused(f"its pickle has over {MAX_INSTRUCTIONS:,} instructions")
        if len(machine.stack) > MAX_STACK:
            raise PickleRefused(f"its pickle leaves over {MAX_STACK:,} values open")
        if opcode.name == "STOP":
            return machine.pop()
        machine.step(opcode.name, argument)
    raise PickleRefused("its pickle has no end")


class _Machine:
    """A stack, a memo, and the instructions of a state dict's pickle."""

    def __init__(self, read_storage: Callable[[str], bytes], max_bytes: int) -> None:
        self.read_storage = read_storage
        self.bytes_left = max_bytes
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under each mark
        self.memo: dict[int, Any] = {}
        self.contents: dict[str, bytes] = {}
        self.storages: dict[tuple[str, str], _Storage] = {}

    def pop(self, kind: type = object) -> Any:
        if not self.stack:
            raise PickleRefused("its pickle is damaged")
        value = self.stack.pop()
        if not isinstance(value, kind):
            raise PickleRefused(f"it has a {type(value).__name__} where a {kind.__name__} belongs")
        return value

    def pop_to_mark(self) -> list[Any]:
        if not self.below:
            raise PickleRefused("its pickle is damaged")
        values, self.stack = self.stack, self.below.pop()
        return values

    def step(self, instruction: str, argument: Any) -> None:
        if instruction in LITERALS:
            self.stack.append(argument)
        elif instruction in CONSTANTS:
            self.stack.append(CONSTANTS[instruction])
        elif instruction in EMPTY:
            self.stack.append(EMPTY[instruction]())
        elif instruction in TUPLES:
            values = [self.pop() for _ in range(TUPLES[instruction])]
            self.stack.append(tuple(reversed(values)))
        elif instruction in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.top()
        elif instruction in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif instruction not in ("PROTO", "FRAME"):
            do = getattr(self, f"do_{instruction.lower()}", None)
            if do is None:
                raise PickleRefused(
                    f"its pickle has the instruction {instruction}, which no state dict needs"
                )
            do(argument)

    def top(self) -> Any:
        self.stack.append(self.pop())
        return self.stack[-1]

    def do_mark(self, _: None) -> None:
        self.below.append(self.stack)
        self.stack = []

    def do_memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.top()

    def do_tuple(self, _: None) -> None:
        values = self.pop_to_mark()
        self.stack.append(tuple(values))

    def do_append(self, _: None) -> None:
        value = self.pop()
        self.extend([value])

    def do_appends(self, _: None) -> None:
        self.extend(self.pop_to_mark())

    def extend(self, values: list[Any]) -> None:
        target = self.pop(list)
        target.extend(values)
        self.stack.append(target)

    def do_setitem(self, _: None) -> None:
        value, key = self.pop(), self.pop()
        self.update([key, value])

    def do_setitems(self, _: None) -> None:
        self.update(self.pop_to_mark())

    def update(self, pairs: list[Any]) -> None:
        target = self.pop(dict)
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, str | int):
                raise PickleRefused(f"it has a {type(key).__name__} as a name")
            target[key] = value
        self.stack.append(target)

    def do_global(self, argument: str) -> None:
        self.name(".".join(argument.split(" ")))

    def do_stack_global(self, _: None) -> None:
        name, module = self.pop(str), self.pop(str)
        self.name(f"{module}.{name}")

    def name(self, text: str) -> None:
        if text not in NAMES:
            raise PickleRefused(f"it asks for {printable(text[:60])}, which no state dict needs")
        self.stack.append(_Name(text))

    def do_build(self, _: None) -> None:
        """Drop the attributes of an ordered dictionary (PyTorch's ``_metadata``)."""
        self.pop()
        self.stack.append(self.pop(dict))

    def do_binpersid(self, _: None) -> None:
        """Turn a reference to a storage into its numbers."""
        kind, storage_type, key, *_ = self.pop(tuple)
        if kind != "storage" or not isinstance(storage_type, _Name) or not isinstance(key, str):
            raise PickleRefused("it refers to something that is not a tensor's storage")
        self.stack.append(self.storage(key, storage_type.text.removeprefix("torch.")))

    def storage(self, key: str, class_name: str) -> _Storage:
        """Return a storage; each is read only once, however often it is referred to."""
        if key not in self.contents:
            self.contents[key] = self.read_storage(key)
        if (key, class_name) not in self.storages:
            array = np.frombuffer(self.contents[key], STORAGES[class_name])
            if class_name == "BFloat16Storage":
                array = (array.astype(np.uint32) << 16).view(np.float32)
            self.storages[key, class_name] = _Storage(array)
        return self.storages[key, class_name]

    def do_reduce(self, _: None) -> None:
        """Make a dictionary, a tensor or a parameter; only what may be named can be made."""
        arguments, name = self.pop(tuple), self.pop(_Name).text
        if name == DICTIONARY:
            if arguments:  # Python fills it later; a list named often would be copied as often
                raise PickleRefused("it makes a dictionary of a list")
            self.stack.append({})
        elif name == TENSOR:
            self.stack.append(self.tensor(*arguments[:4]))
        elif name == PARAMETER:
            self.stack.append(arguments[0])
        else:
            raise PickleRefused(f"it calls {name}")

    def tensor(self, storage: Any, offset: Any, size: Any, stride: Any) -> np.ndarray:
        if not isinstance(storage, _Storage):
            raise PickleRefused("it has a tensor without a storage")
        numbers = storage.numbers
        if len(size) > MAX_DIMENSIONS or len(size) != len(stride):
            raise PickleRefused("a tensor's shape is not valid")
        if not all(isinstance(n, int) and 0 <= n < 2**63 for n in (offset, *size, *stride)):
            raise PickleRefused("a tensor's shape is not valid")
        if 0 in size:
            return np.zeros(size, numbers.dtype)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if last >= len(numbers) or math.prod(size) > len(numbers):
            raise PickleRefused("a tensor reaches beyond its storage")
        self.bytes_left -= math.prod(size) * numbers.itemsize
        if self.bytes_left < 0:
            raise PickleRefused("its tensors are larger than the file")
        view = np.lib.stride_tricks.as_strided(
            numbers[offset:], size, [step * numbers.itemsize for step in stride], writeable=False
        )
        # Most tensors take up all of their storage and need no second copy.
        whole = view.size == len(numbers) and view.flags.c_contiguous
        return view if whole else np.array(view, order="C")
