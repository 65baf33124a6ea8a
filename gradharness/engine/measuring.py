"""What a subject costs at a plain case: bytes that it keeps for its backward, and time beside plain autograd."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median

import torch
from torch.autograd.graph import saved_tensors_hooks

from gradharness.checks import leak, vjp
from gradharness.checks.surroundings import watched
from gradharness.engine.metering import copied_point
from gradharness.model.subject import Primals, Subject
from gradharness.numerics import tree
from gradharness.numerics.layout import copied
from gradharness.subjects.custom_nodes import custom_nodes
from gradharness.subjects.reverse import attached

# Interleaved, so that whatever slows the machine down slows both; the median of their ratios forgets single hiccups.
_PAIRS = 31
_SECONDS = 0.1  # for all pairs together; there is always one
MEASURED = (leak.CHECK.name, vjp.CHECK.name)


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured; None where nothing was."""

    saved_bytes: int | None = None
    cost_ratio: float | None = None


def costs_of(check: str, subject: Subject, other: Subject | None, primals: Primals | None) -> Costs:
    """The costs that belong to a check: bytes to ``leak``, time to ``vjp``. Never raises: a verdict stands anyway.

    Args:
        check: Name of the check that has passed.
        subject: The code under test, its calls not counted.
        other: The same function through autograd: the reference, or the own forward; None if there is none.
        primals: An ordinary point; None if there is none.
    """
    if primals is None or check not in MEASURED:
        return Costs()
    try:
        with watched():
            if check == leak.CHECK.name:
                return Costs(saved_bytes=saved_bytes(subject, primals))
            return Costs(cost_ratio=None if other is None else cost_ratio(subject, other, primals))
    except Exception:  # what it costs is no reason to lose what was found
        return Costs()


def saved_bytes(subject: Subject, primals: Primals) -> int | None:
    """Bytes of all storages that one forward keeps for its backward, each once, and not those of its inputs.

    They are what autograd is given to save, and tensors that a Function keeps as attributes of its ctx. None for a
    subject that is not behind autograd.
    """
    leaves = attached(copied(primals.leaves))
    inputs = {_storage(t) for t in (*leaves, *tree.tensors(primals.values))}
    kept: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.detach())
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = subject.traced(primals, leaves)
    if outputs is None:
        return None
    kept += [t for node in custom_nodes(outputs) for t in tree.tensors(list(vars(node).values()))]
    return sum(size for _, size in {_storage(t) for t in kept} - inputs)


def _storage(tensor: torch.Tensor) -> tuple[int, int]:
    """Address and size in bytes of what a tensor is a view of."""
    if tensor.layout is not torch.strided:
        return id(tensor), tensor.element_size() * tensor._nnz()
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.nbytes()


def cost_ratio(subject: Subject, other: Subject, primals: Primals) -> float:
    """Time of a forward and backward over that of the same through another subject: median of interleaved pairs."""
    _seconds(subject, primals), _seconds(other, primals)  # the first calls fill caches
    ratios: list[float] = []
    started = time.perf_counter()
    while not ratios or (len(ratios) < _PAIRS and time.perf_counter() - started < _SECONDS):
        ratios.append(_seconds(subject, primals) / _seconds(other, primals))
    return median(ratios)


def _seconds(subject: Subject, primals: Primals) -> float:
    point = copied_point(primals)
    _finish(point)
    started = time.perf_counter()
    linearization = subject.linearize(point)
    linearization.pullback([torch.ones_like(y) for y in linearization.cotangent_like])
    _finish(point)
    return time.perf_counter() - started


@cache
def processor() -> str:
    """The processor's own name, since times of one tell nothing of another; empty where it is not known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _finish(primals: Primals) -> None:
    """Waits for what a device has been given to do."""
    for leaf in primals.leaves:
        if leaf.is_cuda:
            torch.cuda.synchronize(leaf.device)
