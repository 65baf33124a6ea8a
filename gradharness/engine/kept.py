"""A kept witness: a failing case as data, from which the same case comes again in another process.

What it says is an ``Entry``, which JSON holds; its numbers are tensors. Values that are neither (an object of the
user's own) are only described, and have to come from the test again.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any, TypeAlias

import msgspec
import torch
from msgspec import Meta

from gradharness.engine.plan import Item
from gradharness.model.subject import Tensors
from gradharness.numerics import tree

FORMAT = 1
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex128, torch.complex64),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}
MAX_BYTES = 64 * 2**20  # of one tensor; of a larger one only the recipe is kept
_LONGEST = 100_000  # characters of one argument's plain values
_NESTED = 20
_PRINTABLE = r"\A[^\x00-\x1f\x7f-\x9f]*\Z"  # what is read is printed: no control sequences for a terminal
_MODULE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", re.ASCII)

Text: TypeAlias = Annotated[str, Meta(max_length=2000, pattern=_PRINTABLE)]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=200, pattern=_PRINTABLE)]
Id: TypeAlias = Annotated[str, Meta(pattern=r"\A[0-9a-f]{10}\Z")]
Date: TypeAlias = Annotated[str, Meta(pattern=r"\A\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d))?\Z")]
Natural: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class KeptStatus(StrEnum):
    """What came of a kept witness when it was last looked at."""

    FAILING = "failing"
    FIXED = "fixed"
    ERRORING = "erroring"
    UNDECIDED = "undecided"


# ------------------------------------------------------------------------------------------------ values of arguments


class _Node(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """One value of an argument."""


class TensorNode(_Node, frozen=True, kw_only=True, tag="tensor"):
    """A tensor, by its name among the stored ones. ``stride`` only where it is not contiguous."""

    name: Name
    dtype: Name
    stride: Annotated[tuple[Natural, ...], Meta(max_length=64)] | None = None


class PlainNode(_Node, frozen=True, kw_only=True, tag="plain"):
    """What JSON can say."""

    value: bool | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | float | str | None


class FloatNode(_Node, frozen=True, kw_only=True, tag="float"):
    """A number that JSON has no word for."""

    text: Annotated[str, Meta(pattern=r"\A(nan|inf|-inf)\Z")]


class ListNode(_Node, frozen=True, kw_only=True, tag="list"):
    """A list."""

    items: tuple[Node, ...]


class TupleNode(_Node, frozen=True, kw_only=True, tag="tuple"):
    """A tuple."""

    items: tuple[Node, ...]


class DictNode(_Node, frozen=True, kw_only=True, tag="dict"):
    """A dict."""

    items: tuple[tuple[str | Natural, Node], ...]


class OpaqueNode(_Node, frozen=True, kw_only=True, tag="opaque"):
    """A value that is only described."""

    text: Text


Node: TypeAlias = TensorNode | PlainNode | FloatNode | ListNode | TupleNode | DictNode | OpaqueNode


# ---------------------------------------------------------------------------------------------------------- the noun


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of a kept witness but its tensors.

    Attributes:
        format: Version of this form.
        id: Of the file, and of the user's command.
        address: The test: ``path::name`` relative to the root, or ``module:attribute``.
        check: Name of the check that failed.
        device: Where.
        dtype: In which dtype the run was asked for.
        profile: Budget of the run that found it.
        seed: Of that run.
        strict: Whether that run was strict.
        fault: What was wrong, in a word or two.
        message: What was wrong, in a sentence.
        label: The gradient or output that was worst.
        index: Place of the worst element; None if there is no single place.
        expected: The oracle's value there; text for what JSON has no word for, None if there is none.
        got: The subject's value there.
        bound: Tolerance there.
        recipe: ``Recipe.to_json()`` of the case.
        arguments: (name, value) of every argument.
        cotangents: One per differentiable output; empty where the forward raised.
        active: Labels of the differentiated tensors.
        status: What came of it when it was last looked at.
        first_seen: When it failed first, an ISO date.
        last_seen: When it failed last.
        versions: Of what ran when it failed last.
    """

    format: Annotated[int, Meta(ge=1, le=FORMAT)]
    id: Id
    address: Annotated[str, Meta(min_length=1, max_length=1000, pattern=_PRINTABLE)]
    check: Name
    device: Annotated[str, Meta(pattern=r"\A(cpu|cuda(:\d{1,3})?)\Z")]
    dtype: Name
    profile: Name
    seed: Natural
    strict: bool
    fault: Name
    message: Text
    label: Text = ""
    index: Annotated[tuple[Natural, ...], Meta(max_length=64)] | None = None
    expected: float | Text | None = None
    got: float | Text | None = None
    bound: float | Text | None = None
    recipe: dict[str, Any]
    arguments: Annotated[tuple[tuple[Name, Node], ...], Meta(max_length=10_000)]
    cotangents: Annotated[tuple[TensorNode, ...], Meta(max_length=10_000)] = ()
    active: Annotated[tuple[Text, ...], Meta(max_length=100_000)] = ()
    status: KeptStatus = KeptStatus.FAILING
    first_seen: Date
    last_seen: Date
    versions: Annotated[dict[Name, Text], Meta(max_length=20)] = {}

    @property
    def item(self) -> Item:
        """What failed."""
        return Item(self.check, self.device, self.dtype)

    @property
    def title(self) -> str:
        """What failed where, in one line."""
        return f"{self.address} [{self.item.id}]: {self.fault}"


@dataclass(frozen=True, slots=True)
class KeptWitness:
    """A failing case as data.

    Attributes:
        entry: All but the tensors.
        tensors: By the names that the entry's nodes have for them; contiguous, real, on the CPU.
    """

    entry: Entry
    tensors: Mapping[str, torch.Tensor]

    @property
    def id(self) -> str:
        """The entry's."""
        return self.entry.id

    def arguments(self) -> Iterator[tuple[str, Node]]:
        """Name and node of every argument."""
        yield from self.entry.arguments

    def tensor(self, node: TensorNode) -> torch.Tensor:
        """The tensor of a node, with its own dtype and strides."""
        stored = self.tensors[node.name]
        dtype = DTYPES[node.dtype]
        value = torch.view_as_complex(stored) if dtype.is_complex else stored
        return value.clone() if node.stride is None else _laid(value, node.stride)

    def value(self, node: Node) -> object:
        """The value of a node. Raises ``LookupError`` for one that is only described; its text is the description."""
        match node:
            case TensorNode():
                return self.tensor(node)
            case PlainNode(value=value):
                return value
            case FloatNode(text=text):
                return float(text)
            case ListNode(items=items):
                return [self.value(item) for item in items]
            case TupleNode(items=items):
                return tuple(self.value(item) for item in items)
            case DictNode(items=pairs):
                return {key: self.value(item) for key, item in pairs}
            case OpaqueNode(text=text):
                raise LookupError(text)

    def cotangents(self) -> Tensors:
        """One per differentiable output."""
        return tuple(self.tensor(node) for node in self.entry.cotangents)


def leaves(node: Node, path: tree.Path = ()) -> Iterator[tuple[tree.Path, Node]]:
    """All leaves of a node with their paths, as ``numerics.tree`` has them."""
    if isinstance(node, (ListNode, TupleNode)):
        for number, item in enumerate(node.items):
            yield from leaves(item, (*path, number))
    elif isinstance(node, DictNode):
        for key, item in node.items:
            yield from leaves(item, (*path, key))
    else:
        yield path, node


def tensors_of(node: Node) -> Iterator[TensorNode]:
    """The tensors of a node."""
    yield from (leaf for _, leaf in leaves(node) if isinstance(leaf, TensorNode))


def id_of(address: str, item: Item, fault: str, label: str) -> str:
    """The same failure has the same id, whichever values show it.

    Args:
        address: Of the test.
        item: Check, device and dtype.
        fault: What is wrong.
        label: Which gradient or output is wrong.
    """
    text = "\0".join((address, item.check, item.device, item.dtype, fault, label))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def wrong_address(address: str) -> str:
    """Why an address is none of a test beneath the root; empty if it is one."""
    path, colons, name = address.partition("::")
    if not colons:
        return "" if _MODULE.fullmatch(address) else "it is neither path::name nor module:attribute"
    parts = PurePosixPath(path).parts
    if not name.isidentifier():
        return f"{name!r} is no name of a test"
    if "\\" in path or ":" in path or PurePosixPath(path).is_absolute() or ".." in parts or not path.endswith(".py"):
        return f"{path!r} is no Python file beneath the root"
    return ""


# ------------------------------------------------------------------------------------------------- from values to data


class Packing:
    """Collects tensors under names while values become nodes.

    Attributes:
        tensors: What was collected.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] = {}

    def argument(self, value: object) -> Node:
        """The node of an argument; a description where its plain values would be too long."""
        before = dict(self.tensors)
        node = self.node(value)
        try:
            if len(msgspec.json.encode(node)) <= _LONGEST:
                return node
        except UnicodeError:  # text that UTF-8 does not have
            pass
        self.tensors = before
        return _described(value)

    def node(self, value: object, depth: int = 0) -> Node:
        """The node of any value."""
        if isinstance(value, torch.Tensor):
            return self.tensor(value)
        if depth < _NESTED and type(value) in (list, tuple):
            assert isinstance(value, (list, tuple))
            items = tuple(self.node(item, depth + 1) for item in value)
            return ListNode(items=items) if type(value) is list else TupleNode(items=items)
        if depth < _NESTED and type(value) is dict and all(_is_key(key) for key in value):
            return DictNode(items=tuple((key, self.node(item, depth + 1)) for key, item in value.items()))
        if isinstance(value, float) and not math.isfinite(value):
            return FloatNode(text=str(float(value)))
        plain = type(value) in (bool, float, str, type(None))
        if plain or (type(value) is int and -(2**63) <= value < 2**63):
            return PlainNode(value=value)  # type: ignore[arg-type]
        return _described(value)

    def tensor(self, value: torch.Tensor) -> TensorNode | OpaqueNode:
        """The node of a tensor; a description of one that is too large, or that no file can hold."""
        value = value.detach()
        name = str(value.dtype).removeprefix("torch.")
        if value.layout is not torch.strided or name not in DTYPES or value.numel() * value.itemsize > MAX_BYTES:
            return OpaqueNode(text=f"{name}{list(value.shape)}")
        key = str(len(self.tensors))
        stride = None if value.is_contiguous() else value.stride()
        plain = value.resolve_conj().resolve_neg().cpu().contiguous()
        self.tensors[key] = torch.view_as_real(plain).contiguous() if plain.is_complex() else plain
        return TensorNode(name=key, dtype=name, stride=stride)


def short(text: str, most: int = 2000) -> str:
    """Text on one line, without control characters, no longer than an entry may have it."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(plain.split())[:most]


def extent(shape: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """How many elements of memory a strided tensor spans."""
    return 0 if 0 in shape else 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))


def _is_key(key: object) -> bool:
    return type(key) is str or (type(key) is int and 0 <= key < 2**63)


def _described(value: object) -> OpaqueNode:
    return OpaqueNode(text=short(f"{type(value).__name__} {value!r}", 200))


def _laid(value: torch.Tensor, stride: tuple[int, ...]) -> torch.Tensor:
    """The same values with other strides; elements that share memory are equal already."""
    memory = value.new_zeros(extent(tuple(value.shape), stride))
    if 0 in value.shape:
        return memory.as_strided(value.shape, stride)
    places = torch.zeros(value.shape, dtype=torch.int64)
    for dim, (size, step) in enumerate(zip(value.shape, stride, strict=True)):
        places += (torch.arange(size) * step).reshape([-1 if d == dim else 1 for d in range(value.dim())])
    memory[places.reshape(-1)] = value.reshape(-1)
    return memory.as_strided(value.shape, stride)
