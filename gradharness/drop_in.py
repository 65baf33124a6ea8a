"""``gradcheck`` and ``gradgradcheck`` with torch's signatures: one changed import, and everything of ours behind it.

>>> from gradharness import gradcheck  # was: from torch.autograd import gradcheck
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch.autograd.gradcheck import GradcheckError as TorchGradcheckError

from gradharness.api import check
from gradharness.checks import all_checks
from gradharness.checks.double_backward import NOTHING
from gradharness.errors import GradientError, UndecidedWarning
from gradharness.model.verdict import Report, Verdict
from gradharness.report.text import render

_SECOND = "double_backward"
_SEED = 0  # torch's own are deterministic too
_NO_ACTIVE = (
    "{}: none of the inputs is a floating or complex tensor with requires_grad=True: set it on those whose gradient "
    "is to be checked"
)


class GradcheckError(GradientError, TorchGradcheckError):
    """A gradient is wrong. The text is the report; ``except torch.autograd.gradcheck.GradcheckError`` catches it."""


def gradcheck(
    func: Callable[..., torch.Tensor | Sequence[torch.Tensor]],
    inputs: torch.Tensor | Sequence[object],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Runs every check but ``double_backward`` on what ``torch.autograd.gradcheck`` is called with.

    The inputs are examples: their values, shapes, layouts and cotangents are varied as far as ``func`` accepts them.
    All drawing is from one fixed seed, so that the same call gives the same answer.

    Args:
        func: Takes the inputs, returns a tensor or several.
        inputs: A tensor, or a sequence of tensors and plain values.
        eps: Accepted, and not used: steps follow from each input's scale and the measured noise.
        atol: Accepted, and not used. No fixed number suits gradients of all sizes: what is allowed is what truncation,
            round-off and measured noise explain, and 1e-6 of the gradient's own size. A wider tolerance would hide
            faults, and a narrower one is kept to anyway.
        rtol: As ``atol``.
        raise_exception: Whether a wrong gradient raises; else it returns False.
        nondet_tol: Above zero, gradients may differ from call to call: ``determinism`` is not asked.
        check_undefined_grad: If False, the ``mask`` check with its undefined cotangents is not asked.
        check_grad_dtypes: Accepted: dtypes are always checked, before autograd casts them.
        check_batched_grad: Accepted: ``vmap`` is checked wherever ``func`` defines it.
        check_batched_forward_grad: Accepted, as ``check_batched_grad``.
        check_forward_ad: Accepted: ``jvp`` is checked wherever ``func`` defines it.
        check_backward_ad: If False, only ``transforms`` is asked, with forward mode in it.
        fast_mode: Accepted, and not used.
        masked: Accepted, and not used: it speaks of sparse tensors.

    Returns:
        True if nothing is wrong. Where that could not be decided, an ``UndecidedWarning`` says so beside it.

    Raises:
        GradcheckError: If a check fails and ``raise_exception`` is set: a ``GradientError``, and torch's
            ``GradcheckError`` as well.
        ValueError: If no input requires a gradient, or neither forward nor backward mode is to be checked.
        UsageError: If ``func`` raises on the inputs.
    """
    if not (check_backward_ad or check_forward_ad):
        raise ValueError("gradcheck: check_forward_ad and check_backward_ad are both False: nothing is to be checked")
    left_out = {_SECOND}
    left_out |= set() if nondet_tol == 0 else {"determinism"}
    left_out |= set() if check_undefined_grad else {"mask"}
    names = [c.name for c in all_checks() if c.name not in left_out] if check_backward_ad else ["transforms"]
    report = check(func, _examples("gradcheck", inputs), checks=names, seed=_SEED)
    return _answer(report, "vjp" if check_backward_ad else "transforms", raise_exception=raise_exception)


def gradgradcheck(
    func: Callable[..., torch.Tensor | Sequence[torch.Tensor]],
    inputs: torch.Tensor | Sequence[object],
    grad_outputs: torch.Tensor | Sequence[torch.Tensor | None] | None = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """Runs the check ``double_backward`` on what ``torch.autograd.gradgradcheck`` is called with.

    A refusal (``once_differentiable``) is no second derivative: who asks for one gets the error here, while ``check``
    only notes it.

    Args:
        func: As for ``gradcheck``.
        inputs: As for ``gradcheck``.
        grad_outputs: Accepted, and not used: cotangents are drawn, with general values.
        eps: As for ``gradcheck``.
        atol: As for ``gradcheck``.
        rtol: As for ``gradcheck``.
        gen_non_contig_grad_outputs: Accepted, and not used: layouts are ``gradcheck``'s business.
        raise_exception: As for ``gradcheck``.
        nondet_tol: Accepted, and not used.
        check_undefined_grad: Accepted, and not used.
        check_grad_dtypes: Accepted, and not used.
        check_batched_grad: Accepted, and not used.
        check_fwd_over_rev: Accepted, and not used.
        check_rev_over_rev: Accepted, and not used: it is what is done.
        fast_mode: As for ``gradcheck``.
        masked: As for ``gradcheck``.

    Returns:
        As ``gradcheck``.

    Raises:
        GradcheckError: If the second derivative is wrong or refused and ``raise_exception`` is set.
        ValueError: As ``gradcheck``.
        UsageError: As ``gradcheck``.
    """
    report = check(func, _examples("gradgradcheck", inputs), checks=(_SECOND,), seed=_SEED)
    return _answer(report, _SECOND, raise_exception=raise_exception)


def _examples(name: str, inputs: torch.Tensor | Sequence[object]) -> tuple[object, ...]:
    """The inputs as a tuple.

    Raises:
        ValueError: If none requires a gradient, as torch's own does.
    """
    examples = (inputs,) if isinstance(inputs, torch.Tensor) else tuple(inputs)
    if not any(_is_active(x) for x in examples):
        raise ValueError(_NO_ACTIVE.format(name))
    return examples


def _is_active(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return any(map(_is_active, value))
    return isinstance(value, torch.Tensor) and value.requires_grad


def _answer(report: Report, main: str, *, raise_exception: bool) -> bool:
    """True or False or an exception: torch's contract knows no third answer, and so a warning carries it."""
    result = next(r for r in report.results if r.check == main)
    refused = main == _SECOND and result.verdict is Verdict.SKIPPED and result.reason != NOTHING
    if report.verdict is Verdict.FAIL or refused:
        if raise_exception:
            raise GradcheckError(render(report))
        return False
    if result.verdict is not Verdict.PASS:
        text = f"{report.subject}: nothing was found wrong, but {main} could not decide: {result.reason}"
        warnings.warn(text, UndecidedWarning, stacklevel=3)
    return True
