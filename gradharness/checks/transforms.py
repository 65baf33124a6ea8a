"""Check ``transforms``: what torch does with a function besides calling its backward.

Always: saved tensors that are moved away and brought back, or computed again (offloading, checkpointing). Where a
Function defines them: forward mode (``jvp``) and ``vmap``. For a custom op: its registration, and what AOTAutograd
makes of it. What a subject does not define is not asked. What raises is loud, and therefore a warning at most.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from gradharness.checks import vjp
from gradharness.checks.base import Check, Setting
from gradharness.checks.batching_rule import batched
from gradharness.checks.custom_ops import registered
from gradharness.checks.forward_rule import forward_mode
from gradharness.checks.module_call import functional
from gradharness.checks.roundoff import MARGIN, own_roundoff
from gradharness.comparison import compare
from gradharness.errors import BackwardRaised, SubjectError
from gradharness.judge import rule
from gradharness.model.case import Case
from gradharness.model.subject import Gradients
from gradharness.model.verdict import Discrepancy, Fault, Observation, Verdict
from gradharness.numerics import tree
from gradharness.subjects.custom_nodes import Node, custom_nodes, function_class
from gradharness.subjects.reverse import attached
from gradharness.subjects.transformed import AnyCallable, bare_function, transformed, with_copies, with_recomputation

# Whether it is an error, and what is wrong.
Found = tuple[bool, Discrepancy]


def examine(setting: Setting, case: Case) -> Observation:
    """Every transform that the subject claims to support, beside the plain call."""
    if case.empty:
        return Observation(verdict=Verdict.SKIPPED, reason="no element to be wrong")
    try:
        plain = setting.subject.linearize(case.primals).pullback(case.cotangents)
    except BackwardRaised as error:
        return Observation(verdict=Verdict.SKIPPED, reason=f"there is no gradient: {error}")
    function = bare_function(setting.subject)
    outputs = setting.subject.traced(case.primals, attached([x.clone() for x in case.primals.leaves]))
    if function is None or outputs is None:
        return Observation(verdict=Verdict.SKIPPED, reason="not behind autograd")
    nodes = custom_nodes(outputs)
    classes = {function_class(node) for node in nodes}
    found = [*_hidden(nodes), *_moved_and_recomputed(setting, case, plain), *registered(setting, case, function)]
    found += functional(setting, case, function)
    found += [*forward_mode(setting, case, function, classes), *batched(setting, case, function, classes)]
    errors = tuple(d for fatal, d in found if fatal)
    if errors and vjp.examine(setting, case).verdict is Verdict.FAIL:
        return Observation(verdict=Verdict.SKIPPED, reason="the gradient itself is wrong here")
    verdict = Verdict.FAIL if errors else Verdict.PASS
    return Observation(verdict=verdict, discrepancies=errors, warnings=tuple(d for fatal, d in found if not fatal))


# --- saved tensors ----------------------------------------------------------------------------------------------------


def _hidden(nodes: Sequence[Node]) -> Iterator[Found]:
    """Tensors that hang on a node as attributes, where no hook sees them."""
    for node in nodes:
        for name, value in vars(node).items():
            if not any(isinstance(leaf, torch.Tensor) for _, leaf in tree.leaves(value)):
                continue
            owner = function_class(node).__name__
            detail = (
                f"{owner} keeps a tensor as ctx.{name}: save_for_backward lets hooks move it (offloading, "
                "checkpointing), and notices when somebody writes into it"
            )
            steps = _HIDDEN_STEPS
            yield False, Discrepancy(label=f"ctx.{name}", fault=Fault.HIDDEN_TENSOR, detail=detail, steps=steps)


_HIDDEN_STEPS = tuple(
    """\
nodes = [t.grad_fn for t in outputs_of(arguments)]
for node in nodes:  # grows while it is walked
    nodes.extend(parent for parent, _ in node.next_functions if parent is not None)
found = [name for node in nodes for name, v in getattr(node, '__dict__', {}).items() if 'tensor' in repr(v)]
print('tensors kept as attributes of ctx:', found)
sys.exit(int(bool(found)))
""".splitlines()
)


_COPIED = "the gradient is another one where saved tensors are copied away and back (saved_tensors_hooks)"
_AGAIN = "the gradient is another one where forward is computed again in backward (torch.utils.checkpoint)"


def _moved_and_recomputed(setting: Setting, case: Case, plain: Gradients) -> Iterator[Found]:
    kinds: tuple[tuple[str, AnyCallable, tuple[str, ...]], ...] = (
        (_COPIED, with_copies, _COPIED_STEPS),
        (_AGAIN, with_recomputation, _AGAIN_STEPS),
    )
    for words, change, steps in kinds:
        subject = transformed(setting.subject, change)
        if subject is None:
            return
        try:
            gradients = subject.linearize(case.primals).pullback(case.cotangents)
        except SubjectError as error:
            detail = f"{words.replace('is another one', 'does not come at all')}: {error}"
            yield False, Discrepancy(label="backward", fault=Fault.WRONG_TRANSFORM, detail=detail, steps=steps)
            continue
        yield from ((True, d) for d in _other(setting, case, plain, gradients, (words, steps)))


def _other(
    setting: Setting, case: Case, plain: Gradients, gradients: Gradients, told: tuple[str, tuple[str, ...]]
) -> Iterator[Discrepancy]:
    """Gradients that differ by more than round-off; a subject whose equal calls differ is left to others."""
    noise = None
    for number, (label, x, a, b) in enumerate(
        zip(case.primals.labels, case.primals.leaves, gradients, plain, strict=True)
    ):
        expected = torch.zeros_like(x) if b is None else b
        if _same(a, expected):
            continue
        noise = own_roundoff(setting, case, case.cotangents) if noise is None else noise
        if noise is None:
            return
        compared = compare(label, a, expected)
        ruling = rule(compared, MARGIN * noise[number], setting.tolerance)
        if ruling.excess > 1:
            words, steps = told
            yield Discrepancy(
                label=label,
                got=a,
                expected=expected,
                bound=ruling.tolerance,
                excess=ruling.excess,
                fault=Fault.WRONG_TRANSFORM,
                detail=words,
                oracle="the plain call",
                steps=steps,
            )


def _same(got: torch.Tensor | None, expected: torch.Tensor) -> bool:
    """Bit for bit; NaN is NaN here."""
    got = torch.zeros_like(expected) if got is None else got
    return got.shape == expected.shape and bool(((got == expected) | ((got != got) & (expected != expected))).all())


_COMPARED = """\
def near(a, b):
    return not b.numel() or torch.allclose(a, b, rtol=0, atol=1e-6 * b.abs().max().item(), equal_nan=True)
def run(forward):
    torch.manual_seed(0)
    return torch.autograd.grad(forward(), leaves, cotangents, materialize_grads=True)
plain = run(lambda: outputs_of(arguments))
"""
_LAST = """\
print('plain      ', plain, '\\ntransformed', other)
sys.exit(int(not all(map(near, other, plain))))
"""
_COPIED_STEPS = tuple(
    (
        _COMPARED
        + """\
with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t):
    other = run(lambda: outputs_of(arguments))
"""
        + _LAST
    ).splitlines()
)
_AGAIN_STEPS = tuple(
    (
        _COMPARED
        + """\
from torch.utils.checkpoint import checkpoint
other = run(lambda: checkpoint(outputs_of, arguments, use_reentrant=False))
"""
        + _LAST
    ).splitlines()
)


CHECK = Check(
    name="transforms",
    proves="Saved-tensor hooks, recomputation, and what is defined of jvp, vmap and a custom op's registration agree.",
    cannot="It asks for no transform that the subject does not define, and traces custom ops alone.",
    causes=(
        (
            "the jvp or the vmap rule was written once and not changed with the forward",
            "derive it again from today's forward",
        ),
        (
            "tensors are hidden from saved-tensor hooks",
            "use ctx.save_for_backward",
        ),
    ),
    examine=examine,
    weight=0.12,
    optional=True,
)
