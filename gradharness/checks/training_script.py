"""How the stand-alone script of a finding shows a training that departs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gradharness.checks.steps import judged, spelled
from gradharness.model.subject import Primals
from gradharness.subjects.training_steps import Training

_STEPS = 6
_MOST_NUMBERS = 2000  # in batches that are written out; larger ones give way to the witness's, again and again
# Tells the script's head to define the optimiser, the loss and the loop too, where steps name them.
MARK = "# trains"

_HELPERS = (
    "import functools",
    "torch.set_default_dtype(torch.float64)",
    "torch.set_printoptions(precision=17)",
    "def held(obj, path):",
    "    return functools.reduce(getattr, path.split('.'), obj)",
    "def fresh():",
    "    obj = subject_build()",
    "    obj = obj.double() if isinstance(obj, torch.nn.Module) else obj",
    "    for path in states:",
    "        held(obj, path).data = arguments[path].detach().clone()",
    "    return obj",
    "fields = [k for k in arguments if k not in states]",
    "own = tuple(v.detach() if isinstance(v, torch.Tensor) else v for v in (arguments[k] for k in fields))",
)
_OF_CLASS = (
    "def subject_loop(obj, batches):",
    "    for batch in batches:",
    "        arguments.update(zip(fields, batch))",
    "        start(arguments, leaves, obj)(cotangents)",
    "        {update}",
)
_TRAIN = (
    "def train(obj):",
    "    seen = []",
    "    def batches():",
    "        for batch in data:",
    "            seen.append([held(obj, path).detach().clone() for path in states])",
    "            yield batch",
    "    subject_loop(obj, batches())",
    "    return [*seen, [held(obj, path).detach().clone() for path in states]][::{every}]",
)
_DEPARTS = (
    "obj = fresh()",
    "seen = train(obj)",
    "twin = fresh()",
    "params = [v.clone().requires_grad_() for v in seen[0]]",
    "for path, p in zip(states, params):",
    "    *owners, last = path.split('.')",
    "    owner = functools.reduce(getattr, owners, twin)",
    "    getattr(owner, '_parameters', {{}}).pop(last, None)",
    "    setattr(owner, last, p)",
    "optimizer = subject_optimizer(params)",
    "for step, (before, after) in enumerate(zip(seen, seen[1:])):",
    "    parts = zip(*data[step * {every} : (step + 1) * {every}])",
    "    batch = [torch.cat(p) if isinstance(p[0], torch.Tensor) and p[0].dim() else p[0] for p in parts]",
    "    for p, value in zip(params, before):",
    "        p.data = value.clone()",
    "    optimizer.zero_grad()",
    "    {loss}.backward()",
    "    optimizer.step()",
    "    for path, p, old, got in zip(states, params, before, after):",
    "        off = (got - p.data).abs() > {rtol!r} * (p.data - old).abs().max() + 1e-15 * p.data.abs()",
    "        if got.shape != p.shape or off.any():",
    "            print('step', step, 'leaves', path, 'at', got.tolist(), 'and torch at', p.data.tolist())",
    "            sys.exit(1)",
    "sys.exit(0)",
)


def lines(
    training: Training,
    points: Sequence[Primals],
    *,
    rtol: float = 1e-6,
    identity: bool = False,
    repeat: bool = False,
    bystander: str = "",
) -> tuple[str, ...]:
    """Lines that train on some batches, and end in ``sys.exit``.

    Args:
        training: Whose.
        points: The batches.
        rtol: Relative error of an update that is wrong.
        identity: Whether the fault is that a weight is another tensor afterwards.
        repeat: Whether it is that a second object trains otherwise.
        bystander: Attribute of another object that changes; empty if that is not the fault.
    """
    subject = training.subject
    every = subject.accumulate
    head = [f"states = {list(training.parameters)!r}  {MARK}", *_HELPERS]
    if subject.loop is None:
        update = f"obj.{subject.optimize}()" if isinstance(subject.optimize, str) else "subject_optimize(obj)"
        head += [line.format(update=update) for line in _OF_CLASS]
    head += [f"data = {_data(points, len(training.parameters)) or f'[own] * {_STEPS * every}'}"]
    head += [line.format(every=every) for line in _TRAIN]
    if identity:
        return (*head, *_replaced())
    if repeat:
        return (*head, "seen, again = train(fresh()), train(fresh())", *_exit("str(seen) != str(again)"))
    if bystander:
        top = bystander.partition(".")[0].partition("[")[0]
        watch = f"repr(getattr(other, {top!r}))"
        return (*head, "obj, other = fresh(), fresh()", f"before = {watch}", "train(obj)", *_exit(f"before != {watch}"))
    return (*head, *(line.format(loss=_loss(training), rtol=rtol, every=every) for line in _DEPARTS))


def departs(
    training: Training, points: Sequence[Primals], label: str, expected: torch.Tensor, bound: torch.Tensor
) -> tuple[str, ...]:
    """Lines that train on some batches, and hold a parameter against what it is after them if all is right.

    Args:
        training: Whose.
        points: The batches up to the first step that departs.
        label: Of the parameter.
        expected: What it should be.
        bound: Allowed absolute error.
    """
    subject, count = training.subject, len(training.parameters)
    data = _data(points, count)
    if not data or training.seed is not None or (subject.loop is None and subject.accumulate > 1):
        return ()
    update = f"obj.{subject.optimize}()" if isinstance(subject.optimize, str) else "subject_optimize(obj)"
    of_class = (
        "obj = None",
        "for batch in data:",
        f"    pull = start({{**arguments, **dict(zip([*arguments][:-{count}], batch))}}, [], obj)",
        f"    obj, _ = pull.obj, pull({'cotangents' if subject.loss is None else '[torch.ones(())]'})",
        f"    {update}",
    )
    of_loop = (
        "import operator",
        "obj = subject_build()",
        "obj = obj.double() if isinstance(obj, torch.nn.Module) else obj",
        f"for path in {list(training.parameters)!r}:",
        "    operator.attrgetter(path)(obj).data = arguments[path].detach().clone()",
        "subject_loop(obj, iter(data))",
    )
    return (
        f"torch.set_default_dtype(torch.float64)  {MARK}",
        f"data = {data}",
        *(of_class if subject.loop is None else of_loop),
        f"got = obj.{label}.detach()"
        if subject.loop is None
        else f"got = operator.attrgetter({label!r})(obj).detach()",
        f"expected = {spelled(expected)}  # by torch.autograd and torch.optim",
        *judged(expected, bound),
    )


def _data(points: Sequence[Primals], states: int) -> str:
    """The batches as Python; empty if they are too large, or hold what cannot be written."""
    rows = [point.values[: len(point.values) - states] for point in points]
    numbers = sum(v.numel() for row in rows for v in row if isinstance(v, torch.Tensor))
    written = all(isinstance(v, (torch.Tensor, bool, int, float, str)) for row in rows for v in row)
    if not rows or numbers > _MOST_NUMBERS or not written:
        return ""
    return "[" + ", ".join(f"({', '.join(map(_literal, row))},)" for row in rows) + "]"


def _literal(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"torch.tensor({value.tolist()!r}, dtype={value.dtype}).reshape({tuple(value.shape)})"
    return repr(value)


def _replaced() -> Sequence[str]:
    return (
        "obj = fresh()",
        "before = [(held(obj, path), held(obj, path).shape) for path in states]",
        "train(obj)",
        "changed = [held(obj, path) is not old or old.shape != shape for path, (old, shape) in zip(states, before)]",
        *_exit("any(changed)"),
    )


def _exit(condition: str) -> Sequence[str]:
    return (f"sys.exit(int({condition}))",)


def _loss(training: Training) -> str:
    """The objective of the twin, as an expression."""
    subject = training.subject
    targets = len(subject.targets)
    called = f"twin.{subject.forward}(" if isinstance(subject.forward, str) else "subject_forward(twin, "
    if subject.loss is None:
        return f"sum((y * w).sum() for y, w in zip(torch.utils._pytree.tree_leaves({called}*batch)), cotangents))"
    return f"subject_loss({called}*batch[: {-targets or None}]), *batch[len(batch) - {targets} :])"
