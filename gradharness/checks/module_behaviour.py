"""What a module's parameters, rows and modes do: every parameter has an effect, and only what is meant to differs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from gradharness.checks import module_steps as steps
from gradharness.checks.module_case import Found, ModuleCase, shown
from gradharness.errors import GradharnessError, SubjectError
from gradharness.model.subject import Gradients, Primals, Tensors
from gradharness.model.verdict import Discrepancy, Fault
from gradharness.numerics import tree

_VARIANTS = (1.0, -1.0, 0.5)  # of the inputs: what is dead for all of them is hardly a matter of values
_MOVED = (1 + 2.0**-4, 2.0**-5)


def dead(at: ModuleCase) -> Found:
    """Parameters that no output depends on."""
    if _degenerate(at):
        return
    labels = at.case.primals.labels
    points = [_scaled(at, factor) for factor in _VARIANTS]
    found = [gradients for point in points if (gradients := _gradients(at, point)) is not None]
    if not found:
        return
    none: list[str] = []
    zero: list[str] = []
    for number in sorted(at.inner):
        if any((g := gradients[number]) is not None and bool(g.any()) for gradients in found):
            continue
        if _has_effect(at, points, number):
            continue  # a missing gradient, which other checks name
        (none if all(gradients[number] is None for gradients in found) else zero).append(labels[number])
    for names, why in (
        (none, "no path leads from {} to any output"),
        (zero, "the gradient of {} is zero for every input that was tried, and so is its effect on the outputs"),
    ):
        if names:
            detail = (
                f"{why.format(shown(names))}: an optimizer never changes it; use it in forward, or leave it out (a "
                "parameter that is meant to rest has requires_grad=False)"
            )
            yield (
                False,
                Discrepancy(
                    label=names[0], fault=Fault.DEAD_PARAMETER, detail=detail, steps=steps.dead(labels.index(names[0]))
                ),
            )


def _degenerate(at: ModuleCase) -> bool:
    """Whether sizes of one or zero may be what makes a parameter useless: a softmax over a single element."""
    if at.case.recipe.get("example"):
        return False
    return any(size < 2 for t in tree.tensors(at.inputs) for size in t.shape)


def _scaled(at: ModuleCase, factor: float) -> Primals:
    primals = at.case.primals
    leaves = [x if number in at.inner else x * factor for number, x in enumerate(primals.leaves)]
    return primals.at(leaves)


def _gradients(at: ModuleCase, primals: Primals) -> Gradients | None:
    try:
        linearization = at.setting.subject.linearize(primals)
        return linearization.pullback([torch.ones_like(y) * w for y, w in _weights(at, linearization.cotangent_like)])
    except (SubjectError, GradharnessError):
        return None


def _weights(at: ModuleCase, like: Tensors) -> list[tuple[torch.Tensor, torch.Tensor]]:
    known = at.case.cotangents
    one = torch.ones(())
    return [
        (y, known[i].to(y) if i < len(known) and known[i].shape == y.shape else one.to(y)) for i, y in enumerate(like)
    ]


def _has_effect(at: ModuleCase, points: Sequence[Primals], number: int) -> bool:
    for primals in points:
        leaves = list(primals.leaves)
        leaves[number] = leaves[number] * _MOVED[0] + _MOVED[1]
        try:
            here, there = at.setting.subject.outputs(primals), at.setting.subject.outputs(primals.at(leaves))
        except GradharnessError:
            return True
        if any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(here, there, strict=False)):
            return True
    return False


# --- rows ---------------------------------------------------------------------------------------------------------


def rows(at: ModuleCase) -> Found:
    """Where it is claimed: no row of an output depends on another row of the inputs."""
    if not at.function.independent_rows:
        return
    count = _row_count(at)
    if count < 2:
        return
    for row in (0, count - 1):
        forward = _mixed_forward(at, row, count)
        found = forward or _mixed_backward(at, row, count)
        if found:
            batch_norm = _has_batch_statistics(at)
            why = "; batch statistics in train mode mix rows, which eval mode (train=False) does not" * batch_norm
            detail = (
                f"{found}, and rows are claimed to be independent (independent_rows=True): a sum, a mean or a softmax "
                f"over the first dimension, or a reshape that mixes it with others{why}"
            )
            lines = steps.rows_forward(row, count) if forward else steps.rows_backward(row, count)
            yield True, Discrepancy(label="rows", fault=Fault.ROWS_MIXED, detail=detail, steps=lines)
            return


def _row_count(at: ModuleCase) -> int:
    """First size of the first input that has one, if some output has it too."""
    sizes = [t.shape[0] for t in tree.tensors(at.inputs) if t.dim()]
    count = sizes[0] if sizes else 0
    return count if any(y.dim() and y.shape[0] == count for y in at.case.outputs) else 0


def _mixed_forward(at: ModuleCase, row: int, count: int) -> str:
    """Whether the row of an output moves when all other rows of the inputs do."""
    values = at.case.primals.values
    inputs, state = values[: len(values) - len(at.state)], values[len(values) - len(at.state) :]

    def other(t: torch.Tensor) -> torch.Tensor:
        if not t.dim() or t.shape[0] != count:
            return t
        moved = t.detach().clone().roll(1, 0)
        moved = moved * 0.5 + 0.25 if t.is_floating_point() or t.is_complex() else moved
        moved[row] = t.detach()[row]
        return moved

    changed = Primals(at.case.primals.names, (*tree.map_tensors(other, inputs), *state), at.case.primals.active)
    try:
        here, there = at.setting.subject.outputs(at.case.primals), at.setting.subject.outputs(changed)
    except GradharnessError:
        return ""
    for label, a, b in zip(at.case.output_labels, here, there, strict=False):
        if a.dim() and a.shape == b.shape and a.shape[0] == count and at.outputs_differ((b[row],), (a[row],)):
            return f"row {row} of `{label}` changes when only other rows of the inputs do"
    return ""


def _mixed_backward(at: ModuleCase, row: int, count: int) -> str:
    """Whether a cotangent in one row alone gives a gradient in another one."""
    case = at.case
    weights = []
    for w in case.cotangents:
        alone = torch.zeros_like(w)
        if w.dim() and w.shape[0] == count:
            alone[row] = w[row]
        weights.append(alone)
    gradients = at.setting.subject.linearize(case.primals).pullback(weights)
    for number, (label, g) in enumerate(zip(case.primals.labels, gradients, strict=True)):
        if number in at.inner or g is None or not g.dim() or g.shape[0] != count:
            continue
        rest = g.clone()
        rest[row] = 0
        limit = at.setting.tolerance.rtol * max(float(g[row].abs().max()) if g[row].numel() else 0.0, 1e-30)
        if rest.numel() and float(rest.abs().max()) > limit:
            other = int(rest.abs().reshape(count, -1).amax(1).argmax())
            return f"row {row} of the outputs has a gradient with respect to row {other} of `{label}`"
    return ""


def _has_batch_statistics(at: ModuleCase) -> bool:
    return any(isinstance(m, nn.modules.batchnorm._NormBase) for m in at.function.module.modules())


# --- modes --------------------------------------------------------------------------------------------------------


def modes(at: ModuleCase) -> Found:
    """Train and eval mode differ where something in the module is meant to differ, and eval mode draws nothing."""
    train, evaluated = at.twin(), at.twin()
    if train is None or evaluated is None:
        return
    train.train()
    evaluated.eval()
    quiet = [at.plain(evaluated, seed=seed) for seed in (0, 1, 0)]
    if _moved(quiet[0], quiet[1]) and not _moved(quiet[0], quiet[2]):
        detail = (
            "in eval mode two calls with the same inputs give other outputs: forward draws random numbers; a dropout "
            "needs training=self.training, and a weight is drawn once, in __init__"
        )
        yield False, Discrepancy(label="eval", fault=Fault.MODE_DEPENDENT, detail=detail, steps=steps.DRAWS_IN_EVAL)
        return
    before = [b.clone() for b in train.buffers()]
    loud = [at.plain(train, seed=seed) for seed in (0, 1)]
    if _moved(*loud) or _moved(before, list(train.buffers())):
        return  # dropout, statistics of a batch: this is what the modes are for
    same = [y.shape for y in loud[0]] == [y.shape for y in quiet[0]]
    if same and at.outputs_differ(quiet[0], loud[0]):
        detail = (
            "train and eval mode give other outputs, though nothing is drawn at random and no statistics are kept: "
            "training sees another function than what is used afterwards; look for self.training in forward"
        )
        yield False, Discrepancy(label="train", fault=Fault.MODE_DEPENDENT, detail=detail, steps=steps.MODES)


def _moved(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> bool:
    return any(
        x.shape != y.shape or not torch.equal(torch.nan_to_num(x), torch.nan_to_num(y))
        for x, y in zip(a, b, strict=False)
    )
