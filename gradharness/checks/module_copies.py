"""A module that was saved and loaded, copied, pickled or cleared computes what it computed before."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence

import torch
from torch import nn

from gradharness.checks.module_case import Found, ModuleCase, shown
from gradharness.checks.module_steps import CLEARED, DEEPCOPY, PICKLED, REFRESHED, SAVED
from gradharness.errors import GradharnessError, SubjectError, first_line
from gradharness.model.verdict import Discrepancy, Fault
from gradharness.subjects.module_attributes import loose_tensors
from gradharness.subjects.module_function import converted

_MOVED = 1 + 2.0**-3
_LONGEST = 240


def saved(at: ModuleCase) -> Found:
    """``load_state_dict(state_dict())`` into another module of the kind gives the same outputs and gradients."""
    original, other = at.twin(), _other(at)
    if original is None or other is None:
        return
    try:
        other.load_state_dict(original.state_dict())
    except Exception as error:
        text = " ".join(str(error).split())[:_LONGEST]  # torch's says nothing in its first line
        detail = (
            f"load_state_dict(state_dict()) raises {type(error).__name__}: {text}; every key that state_dict gives has "
            "to be one that load_state_dict takes, and the other way round"
        )
        yield True, Discrepancy(label="state_dict", fault=Fault.NOT_SAVED, detail=detail, steps=SAVED)
        return
    lost = _lost(at) if at.function.can_build else []
    told = _difference(at, original, other)
    if told is not None:
        named = f": {shown(lost)} {'is' if len(lost) == 1 else 'are'} drawn in __init__ and not saved" if lost else ""
        detail = (
            f"a second module that loads the state_dict of the first one gives other {told}{named}; what forward needs "
            "has to be a parameter, or a buffer (register_buffer)"
        )
        yield True, Discrepancy(label=lost[0] if lost else told, fault=Fault.NOT_SAVED, detail=detail, steps=SAVED)


def refreshed(at: ModuleCase) -> Found:
    """A module that has run before forgets it when it loads another state."""
    fresh, used = at.twin(), at.twin()
    if fresh is None or used is None:
        return
    first, second = at.plain(used), at.plain(used)  # keeps whatever forward keeps
    if at.outputs_differ(first, second):
        return  # a module that goes on from call to call, as a recurrent one does
    learnt = set(at.learnable)
    state = {n: v.detach().clone() for n, v in fresh.state_dict().items() if isinstance(v, torch.Tensor)}
    moved = {name: v * _MOVED if name in learnt else v for name, v in state.items()}
    try:
        fresh.load_state_dict(moved, strict=False)
        used.load_state_dict(moved, strict=False)
    except Exception:
        return  # ``saved`` tells of it
    told = _difference(at, used, fresh)
    if told is not None:
        detail = (
            f"after load_state_dict a module that has run before gives other {told} than a new one: forward keeps "
            "something that it computed from the parameters; compute it anew in every call"
        )
        yield True, Discrepancy(label=told, fault=Fault.NOT_SAVED, detail=detail, steps=REFRESHED)


def copied(at: ModuleCase) -> Found:
    """``copy.deepcopy`` and pickle give a module with the same outputs and gradients."""
    for how, duplicate, steps in (
        ("a deep copy", copy.deepcopy, DEEPCOPY),
        ("a pickled and unpickled copy", _pickled, PICKLED),
    ):
        original = at.twin()
        if original is None:
            return
        try:
            other = duplicate(original)
        except Exception:  # a local class, a lambda, a lock: it cannot be copied, and says so itself
            continue
        told = _difference(at, other, original)
        if told is not None:
            detail = (
                f"{how} of the module gives other {told} than the module itself: something that forward uses is not "
                "copied, or is still the original's; look at __deepcopy__, __getstate__ and functions that remember "
                "`self`"
            )
            yield True, Discrepancy(label=told, fault=Fault.WRONG_COPY, detail=detail, steps=steps)


def cleared(at: ModuleCase) -> Found:
    """``zero_grad()`` clears every gradient that backward has filled."""
    module = at.twin()
    if module is None:
        return
    outputs = at.outputs(module, at.inputs)
    chosen = [y for y in outputs if y.requires_grad]
    if not chosen:
        return
    try:
        torch.autograd.backward(chosen, [torch.ones_like(y) for y in chosen])
    except Exception:  # named by other checks
        return
    filled = [name for name, p in module.named_parameters() if p.grad is not None and bool(p.grad.any())]
    try:
        module.zero_grad()
    except Exception as error:
        detail = f"zero_grad() raises {type(error).__name__}: {first_line(error)}"
        yield True, Discrepancy(label="zero_grad", fault=Fault.NOT_CLEARED, detail=detail, steps=CLEARED)
        return
    known = dict(module.named_parameters())
    left = [name for name in filled if (g := known[name].grad) is not None and bool(g.any())]
    if left:
        detail = (
            f"zero_grad() leaves the gradient of {shown(left)} as it was, and the next backward adds to it; let "
            "zero_grad clear every parameter, as torch.nn.Module.zero_grad does"
        )
        yield True, Discrepancy(label=left[0], fault=Fault.NOT_CLEARED, detail=detail, steps=CLEARED)


def _pickled(module: nn.Module) -> nn.Module:
    made: nn.Module = pickle.loads(pickle.dumps(module))
    return made


def _other(at: ModuleCase) -> nn.Module | None:
    """A module of the kind, built from another seed where it can be, with other parameters than the case's."""
    like = next((t for t in at.state.values() if t.is_floating_point()), None)
    try:
        module = at.function.fresh(1)
        learnt = set(at.learnable)
        own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        device = at.setting.device
        dtype = at.setting.dtype if like is None else like.dtype
        values = {name: converted(t.detach(), dtype, device) for name, t in own.items()}
        return at.function.twin({n: v * _MOVED if n in learnt else v for n, v in values.items()}, seed=1)
    except GradharnessError:
        return None


def _lost(at: ModuleCase) -> list[str]:
    """What two modules of the kind have drawn, each for itself, and no state_dict holds."""
    one, two = at.function.fresh(0), at.function.fresh(1)
    kept = one.state_dict()
    buffers = dict(two.named_buffers())
    drawn = [n for n, b in one.named_buffers() if n not in kept and n in buffers and not _same(b, buffers[n])]
    others = {found.label: found.tensor for found in loose_tensors(two)}
    loose = loose_tensors(one)
    return drawn + [f.label for f in loose if f.label in others and not _same(f.tensor, others[f.label])]


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


def _difference(at: ModuleCase, got: nn.Module, expected: nn.Module) -> str | None:
    """What differs between two modules, for a message; None if nothing does.

    Raises:
        SubjectError: If the second one raises.
    """
    outputs, gradients = at.gradients(expected)
    try:
        others, given = at.gradients(got)
    except SubjectError as error:
        return f"results (it raises {type(error.original).__name__}: {first_line(error.original)})"
    if at.outputs_differ(others, outputs):
        return "outputs"
    wrong = _wrong(at, given, gradients)
    return f"gradients ({shown(wrong)})" if wrong else None


def _wrong(
    at: ModuleCase, got: dict[str, torch.Tensor | None], expected: dict[str, torch.Tensor | None]
) -> Sequence[str]:
    return [name for name in expected if at.gradient_differs(name, got.get(name), expected[name])]
