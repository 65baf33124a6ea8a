"""The file of one kept witness: bytes that were perhaps written by somebody else, and a witness or a refusal.

Sizes are looked at before anything is allocated, and every field before anything is done with it.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
import torch
from msgspec import Meta
from safetensors import SafetensorError
from safetensors.torch import load, save

from gradharness.engine.kept import (
    DTYPES,
    FORMAT,
    Entry,
    KeptWitness,
    TensorNode,
    extent,
    id_of,
    tensors_of,
    wrong_address,
)
from gradharness.errors import StoreError, UsageError
from gradharness.inputs.recipe import Recipe

SUFFIX = ".safetensors"
MAX_FILE = 256 * 2**20
MAX_HEADER = 2**20
MAX_SIZE = 2**24  # of one dim in a recipe: no test has a longer one, and no forged file is to ask for it
_ENTRY, _DIGEST = "gradharness", "sha256"
_WORDS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class _Heading(msgspec.Struct, frozen=True):
    """What is read first, to tell a newer file from a damaged one."""

    format: int


class _Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor in the header of a safetensors file."""

    dtype: str
    shape: Annotated[tuple[Annotated[int, Meta(ge=0, le=MAX_FILE)], ...], Meta(max_length=64)]
    data_offsets: tuple[Annotated[int, Meta(ge=0, le=MAX_FILE)], Annotated[int, Meta(ge=0, le=MAX_FILE)]]


def packed(witness: KeptWitness) -> bytes:
    """The bytes of a witness's file."""
    try:
        entry = msgspec.json.encode(witness.entry).decode()
    except (UnicodeError, TypeError, msgspec.MsgspecError) as error:
        raise StoreError(f"{witness.id}: no file can hold the case ({_line(error)}): it is not kept") from error
    tensors = dict(witness.tensors)
    bare = save(tensors)
    header, data = _parts(bare)
    content = save(tensors, {_ENTRY: entry, _DIGEST: _digest(entry, _described(header), data)})
    if int.from_bytes(content[:8], "little") > MAX_HEADER:
        raise StoreError(f"{witness.id}: what describes the case is longer than {MAX_HEADER} bytes: it is not kept")
    return content


def read_file(path: Path) -> KeptWitness:
    """The witness in a file.

    Raises:
        StoreError: If it is refused; the message names the file, what is wrong, and what to do.
        FileNotFoundError: If there is no such file.
    """
    try:
        return unpacked(_content(path), path.name)
    except _Refusal as refusal:
        raise StoreError(f"{path} is refused: {refusal}; delete it, or move it elsewhere") from refusal


class _Refusal(Exception):
    """What is wrong with a file."""


def _content(path: Path) -> bytes:
    """All bytes of a plain file that is not too large; links, pipes and devices are not opened for long."""
    if not re.fullmatch(r"[0-9a-f]{10}\.safetensors", path.name):
        raise _Refusal("its name is none of a kept witness")
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        if path.is_symlink():
            raise _Refusal("it is a link")
        handle = os.open(path, flags)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _Refusal(f"it cannot be opened ({error.strerror})") from error
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode):
        os.close(handle)
        raise _Refusal("it is no plain file")
    with os.fdopen(handle, "rb") as file:
        if about.st_size > MAX_FILE:
            raise _Refusal(f"it has {about.st_size} bytes, more than {MAX_FILE}")
        try:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or length > min(MAX_HEADER, about.st_size - 8):
                raise _Refusal("it is no safetensors file, or was cut short")
            return start + file.read(MAX_FILE)
        except OSError as error:
            raise _Refusal(f"it cannot be read ({error.strerror})") from error


def unpacked(content: bytes, name: str) -> KeptWitness:
    """The witness in some bytes.

    Args:
        content: Of the file.
        name: Of the file.
    """
    try:
        header, data = _parts(content)
        text = msgspec.convert(msgspec.json.decode(header.pop("__metadata__", msgspec.Raw(b"{}"))), dict[str, str])
        tensors = {key: msgspec.json.decode(raw, type=_Tensor) for key, raw in header.items()}
        if _ENTRY not in text:
            raise _Refusal("it is no file of gradharness")
        _not_newer(text[_ENTRY])
        if text.get(_DIGEST) != _digest(text[_ENTRY], _described(header), data):
            raise _Refusal("its digest does not fit: it was damaged, or changed by hand")
        entry = msgspec.json.decode(text[_ENTRY], type=Entry)
        _insist(entry, name)
        _fit(tensors, len(data))
        witness = KeptWitness(entry, load(content))
        _whole(witness, tensors)
        return witness
    except (msgspec.DecodeError, UnicodeError, SafetensorError) as error:
        raise _Refusal(f"it is damaged ({_line(error)})") from error
    except (RecursionError, OverflowError, MemoryError) as error:
        raise _Refusal(f"it is nested too deeply, or asks for too much ({type(error).__name__})") from error


def _parts(content: bytes) -> tuple[dict[str, msgspec.Raw], bytes]:
    """The header's objects, and the data behind it."""
    length = int.from_bytes(content[:8], "little")
    return msgspec.json.decode(content[8 : 8 + length], type=dict[str, msgspec.Raw]), content[8 + length :]


def _described(header: Mapping[str, msgspec.Raw]) -> bytes:
    plain = {key: msgspec.json.decode(raw, type=_Tensor) for key, raw in header.items() if key != "__metadata__"}
    return msgspec.json.encode(plain, order="sorted")


def _digest(entry: str, tensors: bytes, data: bytes) -> str:
    text = entry.encode()
    lengths = b"%d %d " % (len(text), len(tensors))
    return hashlib.sha256(b"".join((lengths, text, tensors, data))).hexdigest()


def _not_newer(entry: str) -> None:
    heading = msgspec.json.decode(entry, type=_Heading)
    if heading.format > FORMAT:
        raise _Refusal(f"it has format {heading.format}, this gradharness reads up to {FORMAT}: update it")


def _insist(entry: Entry, name: str) -> None:
    """Refuses an entry whose fields do not fit each other."""
    if f"{entry.id}{SUFFIX}" != name or entry.id != id_of(entry.address, entry.item, entry.fault, entry.label):
        raise _Refusal("its id is not that of what it holds")
    if wrong := wrong_address(entry.address):
        raise _Refusal(f"its address {entry.address!r} cannot be: {wrong}")
    try:
        recipe_of(entry)
    except UsageError as error:
        raise _Refusal(_line(error)) from error


def recipe_of(entry: Entry) -> Recipe:
    """The recipe of an entry, without values that JSON could not hold.

    Raises:
        UsageError: If it is none, or asks for sizes beyond all reason.
    """
    arguments = entry.recipe.get("arguments", {})
    if not isinstance(arguments, dict):
        raise UsageError("recipe: arguments must be an object")
    said = {key: value for key, value in arguments.items() if not isinstance(value, dict)}
    recipe = Recipe.from_json({**entry.recipe, "arguments": said})
    sizes = [*recipe.sizes, *((name, size) for name, batch in recipe.batches for size in batch)]
    for name, size in sizes:
        if size > MAX_SIZE:
            raise UsageError(f"recipe: size {size} of {name} is beyond {MAX_SIZE}")
    if recipe.seed >= 2**63 or any(len(batch) > 16 for _, batch in recipe.batches):
        raise UsageError("recipe: its seed or its batch dims are beyond all reason")
    return recipe


def _fit(tensors: Mapping[str, _Tensor], size: int) -> None:
    """Refuses tensors that are not exactly where the header says."""
    for key, one in tensors.items():
        if one.dtype not in _WORDS:
            raise _Refusal(f"tensor {key!r} has the dtype {one.dtype!r}")
        start, end = one.data_offsets
        if end > size or end - start != math.prod(one.shape) * _WORDS[one.dtype].itemsize:
            raise _Refusal(f"tensor {key!r} is not as large as its shape says")


def _whole(witness: KeptWitness, tensors: Mapping[str, _Tensor]) -> None:
    """Refuses tensors that the entry does not name, names that have no tensor, and strides that span too much."""
    for key, one in tensors.items():
        loaded = witness.tensors.get(key)
        if loaded is None or tuple(loaded.shape) != one.shape or loaded.dtype is not _WORDS[one.dtype]:
            raise _Refusal(f"tensor {key!r} is not as its header says")
    nodes = [node for _, root in witness.arguments() for node in tensors_of(root)]
    names = [node.name for node in (*nodes, *witness.entry.cotangents)]
    if sorted(names) != sorted(witness.tensors) or len(set(names)) != len(names):
        raise _Refusal("its tensors are not those that its arguments have")
    for node in (*nodes, *witness.entry.cotangents):
        _laid_out(node, witness.tensors[node.name])


def _laid_out(node: TensorNode, stored: torch.Tensor) -> None:
    dtype = DTYPES.get(node.dtype)
    if dtype is None:
        raise _Refusal(f"{node.dtype!r} is no dtype of a kept tensor")
    shape = tuple(stored.shape)
    if dtype.is_complex:
        if not shape or shape[-1] != 2 or stored.dtype is not dtype.to_real():
            raise _Refusal(f"tensor {node.name!r} is no {node.dtype}")
        shape = shape[:-1]
    elif stored.dtype is not dtype:
        raise _Refusal(f"tensor {node.name!r} is no {node.dtype}")
    if node.stride is None:
        return
    if len(node.stride) != len(shape) or extent(shape, node.stride) * dtype.itemsize > MAX_FILE:
        raise _Refusal(f"tensor {node.name!r} has strides {list(node.stride)} for {list(shape)}")


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
