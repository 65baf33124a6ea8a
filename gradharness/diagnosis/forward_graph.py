"""The autograd graph of the reference or of the own forward: gradients with a part of it left out or changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from gradharness.checks.base import Setting
from gradharness.diagnosis.formulas import Handed, Hook, Node, bare, saved, terms, variants
from gradharness.errors import GradharnessError
from gradharness.model.case import Case
from gradharness.model.subject import Tensors
from gradharness.model.verdict import Fault
from gradharness.subjects.custom_nodes import graph_nodes
from gradharness.subjects.reverse import attached

_MOST_NODES = 120
_FRAME = re.compile(r'File "(?P<file>.+)", line (?P<line>\d+), in .+\n\s+(?P<source>.+)')
_NOT_USERS = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))
# Nodes that only arrange: what flows through them is told by the node next to them.
_ARRANGING = frozenset(
    "View ReshapeAlias Unsafe Expand Unsqueeze Squeeze T Transpose Permute Clone Alias Select Slice Add Sub Mul".split()  # noqa: SIM905
)
_LONGEST = 70
_OPERANDS = ("self", "other", "mat2", "vec", "result")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the gradient that can be taken out of the graph.

    Attributes:
        node: Number of the node.
        kind: Which part of what the node hands on, such as "input 0".
        words: How it is called.
        hook: Gives what the node hands on without the part.
    """

    node: int
    kind: str
    words: str
    hook: Hook


@dataclass(frozen=True, slots=True)
class Altered:
    """Another factor at a node, in what comes to it.

    Attributes:
        node: Number of the node.
        kind: Which factor.
        words: "lacks the factor …".
        fault: What that is.
        before: Gives what comes to the node in place of the gradients that do; None to leave it.
        hook: Gives what it hands on; None to leave it.
    """

    node: int
    kind: str
    words: str
    fault: Fault
    before: Callable[[Handed], Handed] | None = None
    hook: Hook | None = None


class Graph:
    """One run of an oracle's forward, kept for many backwards.

    Args:
        outputs: With their graph.
        leaf: What is differentiated.
        cotangents: One per output.
    """

    def __init__(self, outputs: Tensors, leaf: torch.Tensor, cotangents: Tensors) -> None:
        self.nodes: tuple[Node, ...] = graph_nodes(outputs)
        self._outputs, self._leaf, self._cotangents = outputs, leaf, cotangents

    @property
    def shape(self) -> tuple[str, ...]:
        """Names of all nodes; graphs of one shape have the same parts."""
        return tuple(node.name() for node in self.nodes)

    def tangent(self, direction: torch.Tensor) -> torch.Tensor | None:
        """J·v of the one output; None where its gradient cannot be differentiated again."""
        weight = torch.zeros_like(self._cotangents[0]).requires_grad_()
        try:
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(self._outputs, (self._leaf,), (weight,), create_graph=True)
                found: torch.Tensor = torch.autograd.grad(gradient, weight, direction.to(gradient.dtype))[0]
        except RuntimeError:
            return None
        return found

    def diagonal(self) -> torch.Tensor:
        """The derivative of each element of the one output by the same element of the leaf."""
        found = torch.zeros_like(self._leaf).reshape(-1)
        for n in range(found.numel()):
            one = torch.zeros_like(found)
            one[n] = 1
            (row,) = torch.autograd.grad(
                self._outputs, (self._leaf,), (one.reshape(self._leaf.shape),), retain_graph=True
            )
            found[n] = row.reshape(-1)[n]
        return found.reshape(self._leaf.shape).detach()

    def without(self, *parts: Part) -> torch.Tensor | None:
        """The gradient without some parts."""
        return self._gradient([self.nodes[p.node].register_hook(p.hook) for p in parts])

    def with_altered(self, one: Altered) -> torch.Tensor | None:
        """The gradient with another factor at one node."""
        node = self.nodes[one.node]
        before = [] if one.before is None else [node.register_prehook(one.before)]
        return self._gradient([*before, *([] if one.hook is None else [node.register_hook(one.hook)])])

    def _gradient(self, handles: Sequence[Any]) -> torch.Tensor | None:
        try:
            found: torch.Tensor | None = torch.autograd.grad(
                self._outputs, (self._leaf,), self._cotangents, retain_graph=True, allow_unused=True
            )[0]
        except (RuntimeError, TypeError, AttributeError):  # a node without what a formula needs, or written over
            return None
        finally:
            for handle in handles:
                handle.remove()
        return torch.zeros_like(self._leaf) if found is None else found

    def parts(self) -> Iterator[Part]:
        """What each node hands on along each edge, and the terms of nodes that stand for a whole formula."""
        for number, node in sorted(enumerate(self.nodes), key=lambda item: _arranges(item[1])):
            for edge, (parent, _) in enumerate(node.next_functions):
                if parent is not None:
                    yield Part(number, f"input {edge}", f"the part through {_called(node)}", _dropping(edge))
            for term, words, without in terms(node):
                yield Part(number, term, f"{words} of {_called(node)}", without)

    def altered(self) -> Iterator[Altered]:
        """Each node's own derivative left out, and factors that a formula of it may lack or have too many."""
        for number, node in enumerate(self.nodes):
            if node.name().removesuffix("0").removesuffix("1").removesuffix("Backward") in ("AccumulateGrad",):
                continue
            for edge, (parent, _) in enumerate(node.next_functions):
                if parent is not None and node.name() not in ("CloneBackward0", "AliasBackward0"):
                    several = sum(p is not None for p, _ in node.next_functions) > 1 or bare(node) in ("Mul", "Div")
                    words = f"lacks the {'factor that comes from' if several else 'derivative of'} {_called(node)}"
                    yield Altered(number, f"skip {edge}", words, Fault.MISSING_FACTOR, hook=_skipping(edge))
            if any(isinstance(saved(node, n), torch.Tensor) and saved(node, n).is_complex() for n in _OPERANDS):
                words = f"lacks a conjugate: the derivative of {_called(node)} takes an operand as it is"
                yield Altered(number, "conj", words, Fault.MISSING_CONJUGATE, before=_conjugates, hook=_conjugates)
            for name, factor in _factors(node):
                words = f"lacks the factor {name} in the derivative of {_called(node)}"
                yield Altered(number, f"without {name}", words, Fault.MISSING_FACTOR, before=_times(factor, -1))
                words = (
                    f"has the factor {name} too many (or lacks it as a divisor) in the derivative of {_called(node)}"
                )
                fault = Fault.MISSING_FACTOR if "y" in name else Fault.EXTRA_FACTOR
                yield Altered(number, f"with {name}", words, fault, before=_times(factor, 1))
            for key, fault, words, hook in variants(node):
                yield Altered(number, key, words.format(_called(node)), fault, hook=hook)


def graph_of(setting: Setting, case: Case, label: str) -> Graph | None:
    """The graph of the strongest oracle that shows one; None if there is none, or too large a one."""
    for oracle in (setting.trusted, setting.own):
        if oracle is None:
            continue
        primals = case.primals.to(dtype=oracle.dtype)
        leaves = attached(primals.leaves)
        try:
            with torch.autograd.set_detect_anomaly(True, check_nan=False), sdpa_kernel(SDPBackend.MATH):
                outputs = oracle.source.traced(primals, leaves)
        except GradharnessError:
            continue
        if outputs is None or [y.shape for y in outputs] != [w.shape for w in case.cotangents]:
            continue
        cotangents = tuple(w.to(y.dtype) for w, y in zip(case.cotangents, outputs, strict=True))
        graph = Graph(outputs, leaves[primals.labels.index(label)], cotangents)
        if len(graph.nodes) <= _MOST_NODES:
            return graph
    return None


def _dropping(edge: int) -> Hook:
    def hook(handed: Handed, _came: Handed) -> Handed:
        return tuple(torch.zeros_like(g) if n == edge and g is not None else g for n, g in enumerate(handed))

    return hook


def _skipping(edge: int) -> Hook:
    def hook(handed: Handed, came: Handed) -> Handed | None:
        old, new = handed[edge], came[0]
        if old is None or new is None or not _sums_to(new, old.shape):
            return None
        new = new.sum_to_size(old.shape)
        return tuple(new if n == edge else g for n, g in enumerate(handed))

    return hook


def _sums_to(tensor: torch.Tensor, shape: torch.Size) -> bool:
    try:
        return tensor.sum_to_size(shape).shape == shape
    except RuntimeError:
        return False


def _conjugates(handed: Handed, _came: Handed = ()) -> Handed:
    return tuple(None if g is None else g.conj().resolve_conj() for g in handed)


def _times(factor: torch.Tensor, power: int) -> Callable[[Handed], Handed]:
    def before(came: Handed) -> Handed:
        return tuple(g * factor**power if g is not None and g.shape == factor.shape else g for g in came)

    return before


def _factors(node: Node) -> Iterator[tuple[str, torch.Tensor]]:
    """Factors that derivatives are made of: a node's value y and its argument x."""
    y, x = saved(node, "result"), saved(node, "self")
    for name, kept in (("y", y), ("x", x)):
        if isinstance(kept, torch.Tensor) and kept.is_floating_point():
            yield name, kept
            yield f"1 - {name}", 1 - kept
            yield f"1 - {name}²", 1 - kept * kept


def _arranges(node: Node) -> bool:
    return bare(node) in _ARRANGING


def _called(node: Node) -> str:
    """The operation, as the user wrote it where that is known."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", bare(node)).lower()
    for entry in reversed(node.metadata.get("traceback_", [])):
        frame = _FRAME.search(entry)
        if frame is not None and not frame["file"].startswith(_NOT_USERS):
            source = frame["source"].strip()
            shown = f" `{source}`" if len(source) <= _LONGEST else ""
            return f"`{words}` in{shown} line {frame['line']} of {Path(frame['file']).name}".replace(
                "` line", "`, line"
            )
    return f"`{words}` of the forward"
