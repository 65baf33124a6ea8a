"""Every learnable tensor that a module's forward uses is one of its parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from gradharness.checks.module_case import Found, ModuleCase, shown
from gradharness.checks.module_steps import learned, registered
from gradharness.errors import GradharnessError
from gradharness.model.subject import Tensors
from gradharness.model.verdict import Discrepancy, Fault
from gradharness.subjects.custom_nodes import graph_nodes
from gradharness.subjects.module_attributes import Keeping, Loose, loose_tensors

_CONSEQUENCE = "no optimizer updates it, state_dict() does not save it, and .to() does not move it"


def unregistered(at: ModuleCase) -> Found:
    """Learnable tensors in the graph of a call that are no parameters of the module."""
    first, second = _strangers(at), _strangers(at)
    again = {id(t) for t in second}
    loose = loose_tensors(at.function.copy_for(at.case.primals.values))
    own = _own_names(at)
    strangers = {id(t) for t in first}
    for keeping in Keeping:
        held = [one for one in loose if id(one.tensor) in strangers and one.keeping is keeping]
        if held:
            yield True, _outside(held, at)
    rest = [t for t in first if id(t) not in {id(one.tensor) for one in loose}]
    past = [own[id(t)] for t in rest if id(t) in own]
    if past:
        yield True, _past_registry(past)
    rest = [t for t in rest if id(t) not in own]
    derived = {id(t): one for t in rest if (one := _derived(t, loose)) is not None}
    yield from ((True, _computed(one)) for one in derived.values())
    rest = [t for t in rest if id(t) not in derived]
    made = [t for t in rest if id(t) not in again]
    if made:
        yield True, _made(made)
    yield from ((False, _elsewhere(t)) for t in rest if id(t) in again)
    for name, buffer in at.function.module.named_buffers():
        if buffer.requires_grad:
            yield True, _learnable_buffer(name)


def _strangers(at: ModuleCase) -> Tensors:
    """Leaves of the graph of a call that are none of its arguments."""
    leaves = [x.detach().clone().requires_grad_() for x in at.case.primals.leaves]
    outputs = at.setting.subject.traced(at.case.primals, tuple(leaves)) or ()
    known = {id(leaf) for leaf in leaves}
    found = (getattr(node, "variable", None) for node in graph_nodes(outputs))
    return tuple(t for t in found if isinstance(t, torch.Tensor) and id(t) not in known)


def _own_names(at: ModuleCase) -> dict[int, str]:
    """The parameters of the module that the called one was copied from."""
    modules = [at.function.module]
    if isinstance(at.function.source, torch.nn.Module):
        modules.append(at.function.source)
    return {id(p): name for module in modules for name, p in module.named_parameters()}


def _derived(leaf: torch.Tensor, loose: Sequence[Loose]) -> Loose | None:
    """The attribute that was computed from this leaf."""
    for one in loose:
        if one.tensor.grad_fn is not None:
            nodes = graph_nodes([one.tensor])
            if any(getattr(node, "variable", None) is leaf for node in nodes):
                return one
    return None


def _outside(held: Sequence[Loose], at: ModuleCase) -> Discrepancy:
    one = held[0]
    parameters = all(isinstance(h.tensor, torch.nn.Parameter) for h in held)
    kind = ("is a torch.nn.Parameter" if parameters else "requires grad") + " and takes part"
    detail = (
        f"{shown([h.label for h in held])}: each {kind} in forward, and is no parameter of "
        f"{at.setting.subject.name}: {_CONSEQUENCE}; {one.keeping.value}"
    )
    return Discrepancy(label=one.label, fault=Fault.UNREGISTERED, detail=detail, steps=learned(one.name))


def _computed(one: Loose) -> Discrepancy:
    detail = (
        f"`{one.label}` is the result of an operation on a parameter, and no parameter itself: {_CONSEQUENCE}, and a "
        "second backward through it raises; wrap the result, as in torch.nn.Parameter(0.1 * torch.randn(…)), or "
        "compute it in forward"
    )
    return Discrepancy(label=one.label, fault=Fault.UNREGISTERED, detail=detail, steps=learned(one.name))


def _learnable_buffer(name: str) -> Discrepancy:
    detail = (
        f"the buffer `{name}` requires grad, and a buffer is in nobody's parameters(): no optimizer updates it; make "
        "it a torch.nn.Parameter, or register it without requires_grad"
    )
    return Discrepancy(label=name, fault=Fault.UNREGISTERED, detail=detail, steps=learned(name))


def _made(tensors: Sequence[torch.Tensor]) -> Discrepancy:
    shapes = sorted((list(t.shape) for t in tensors), key=lambda shape: (-len(shape), shape))
    many = len(shapes) > 1
    detail = (
        f"forward makes {'learnable tensors' if many else 'a learnable tensor'} of shape "
        f"{' and '.join(map(str, shapes[:4]))} anew in every call: what is new each time never learns, and is no "
        "parameter; make it (or the module that holds it) once, in __init__"
    )
    return Discrepancy(label=f"tensor {shapes[0]}", fault=Fault.MADE_IN_FORWARD, detail=detail)


def _elsewhere(tensor: torch.Tensor) -> Discrepancy:
    detail = (
        f"forward uses a learnable tensor of shape {list(tensor.shape)} that none of the module's attributes holds (a "
        "global, or a variable of the function that made it); if the module is to learn it, assign it as "
        "torch.nn.Parameter"
    )
    return Discrepancy(label=f"tensor {list(tensor.shape)}", fault=Fault.UNREGISTERED, detail=detail)


def _past_registry(names: Sequence[str]) -> Discrepancy:
    detail = (
        f"forward gets at {shown(names)} past the registry (a function that remembers `self`, say): "
        "a deep copy, and torch.func.functional_call, still use the original's; look it up on self in forward"
    )
    return Discrepancy(label=names[0], fault=Fault.WRONG_COPY, detail=detail)


# --- constants ----------------------------------------------------------------------------------------------------


def constants(at: ModuleCase) -> Found:
    """Tensors without grad outside of the registry: like a weight, or left behind by ``.to()``."""
    used = [one for one in _lasting(at) if _matters(at, one)]
    if not used:
        return
    if not at.function.can_build:  # a factory tells more: see ``module_copies.saved``
        yield from ((False, _like_a_weight(one)) for one in used if _looks_random(one.tensor))
    behind = _left_by_dtype(at, used) or _left_by_device(at, used)
    if behind:
        yield False, _left_behind(used, behind)


def _lasting(at: ModuleCase) -> Iterator[Loose]:
    """Floating tensors that were there before a call and are the same afterwards."""
    module = at.function.copy_for(at.case.primals.values)
    before = {id(one.tensor): one for one in loose_tensors(module)}
    at.setting.subject.outputs(at.case.primals)
    for one in loose_tensors(module):
        t = one.tensor
        plain = t.is_floating_point() and not t.requires_grad and t.layout is torch.strided and t.numel() > 0
        if plain and id(t) in before:
            yield one


def _matters(at: ModuleCase, one: Loose) -> bool:
    """Whether outputs change when it does."""
    moved = one.tensor * (1 + 2.0**-4) + 2.0**-5
    if not one.put(moved):
        return False
    try:
        there = at.setting.subject.outputs(at.case.primals)
    except GradharnessError:
        return True
    finally:
        one.put(one.tensor)
    here = at.setting.subject.outputs(at.case.primals)
    return any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(here, there, strict=False))


def _looks_random(tensor: torch.Tensor) -> bool:
    """Whether its values look drawn: all different, of both signs, and unlike their neighbours along every axis."""
    values = tensor.detach().double().cpu()
    flat = values.reshape(-1)
    if flat.numel() < 8 or not bool(flat.isfinite().all()) or len(set(flat.tolist())) < flat.numel():
        return False
    if not bool((flat > 0).any() & (flat < 0).any()):
        return False
    return all(_unlike_neighbours(values, axis) for axis in range(values.dim()) if values.shape[axis] >= 4)


def _unlike_neighbours(values: torch.Tensor, axis: int) -> bool:
    rows = values.movedim(axis, -1)
    rows = rows - rows.mean(-1, keepdim=True)
    size = float(rows.square().sum())
    count = rows.shape[-1]
    # What is drawn has -1/count for any lag, give or take; a table is smooth, or repeats itself.
    lags = range(1, min(4, count))
    return all(abs(float((rows[..., k:] * rows[..., :-k]).sum()) / size + (count - k) / count**2) < 0.5 for k in lags)


def _like_a_weight(one: Loose) -> Discrepancy:
    detail = (
        f"`{one.label}` is used by forward, its values look drawn as a weight's are, and it is neither parameter nor "
        "buffer: no optimizer updates it, and state_dict() does not save it; if it is to be learned, assign it as "
        "torch.nn.Parameter(…), if it is a constant, self.register_buffer(…)"
    )
    return Discrepancy(label=one.label, fault=Fault.LIKE_A_WEIGHT, detail=detail, steps=registered(one.name))


def _left_by_dtype(at: ModuleCase, used: Sequence[Loose]) -> str:
    """A dtype that ``.to`` can ask for and in which forward breaks, or gives another one."""
    primals = at.case.primals
    for dtype in (torch.float64, torch.float32):
        if dtype is at.setting.dtype or not any(one.tensor.dtype is not dtype for one in used):
            continue
        try:
            outputs = at.setting.subject.outputs(primals.to(dtype=dtype))
        except GradharnessError:
            return str(dtype)
        pairs = zip(outputs, at.case.outputs, strict=False)
        if any(y.is_floating_point() and here.dtype is at.setting.dtype and y.dtype is not dtype for y, here in pairs):
            return str(dtype)
    return ""


def _left_by_device(at: ModuleCase, used: Sequence[Loose]) -> str:
    """Whether forward breaks on another device, and does not once these tensors are there too."""
    twin = at.twin()
    if twin is None:
        return ""
    at.plain(twin)  # what is made on first use is made here
    names = {one.label for one in used}
    there = [one for one in loose_tensors(twin) if one.label in names]
    inputs = at.function.split(at.case.primals.to(device="meta").values)[0]
    twin = twin.to("meta")
    if _runs(twin, inputs):
        return ""
    moved = [one.put(one.tensor.to("meta")) for one in there]
    return "another device" if moved and all(moved) and _runs(twin, inputs) else ""


def _runs(module: torch.nn.Module, inputs: Sequence[object]) -> bool:
    try:
        with torch.no_grad():
            module(*inputs)
    except Exception:
        return False
    return True


def _left_behind(used: Sequence[Loose], where: str) -> Discrepancy:
    names = [one.label for one in used]
    steps = registered(used[0].name)
    detail = (
        f"after .to({where}) forward does not run in one dtype and on one device: {shown(names)} "
        f"{'stays' if len(names) == 1 else 'stay'} behind, being no parameter and no buffer; use "
        "self.register_buffer(…), with persistent=False for what need not be saved"
    )
    return Discrepancy(label=names[0], fault=Fault.LEFT_BEHIND, detail=detail, steps=steps)
