"""The form of a check, and the setting in which it looks at a case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from gradharness.inputs.sizes import SizeRange
from gradharness.inputs.styles import Style
from gradharness.model.case import Case
from gradharness.model.subject import Subject
from gradharness.model.verdict import Observation
from gradharness.numerics.tolerance import Tolerance, tolerance_for
from gradharness.oracles.autograd import Autograd
from gradharness.oracles.finite_difference import FiniteDifference


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Everything that stays the same from case to case.

    Attributes:
        subject: The code under test.
        reference: An independent implementation; None if there is none.
        surrogate: True if the gradient is meant to differ from the derivative.
        tolerance: Allowed relative error on top of the oracles' bounds.
        trusted: Autograd of the reference; None without one.
        own: Autograd of the subject's own forward, to be certified where it is used; None for a surrogate.
        differences: Finite differences of the subject's forward; None for a surrogate.
        dtype: Real floating dtype of the primals.
        device: Where all tensors live.
        declared: Whether the user has said which inputs are meant: what else the forward takes is then nobody's claim.
    """

    subject: Subject
    reference: Subject | None
    surrogate: bool
    tolerance: Tolerance
    trusted: Autograd | None
    own: Autograd | None
    differences: FiniteDifference | None
    dtype: torch.dtype
    device: str
    declared: bool = False

    @classmethod
    def of(
        cls,
        subject: Subject,
        reference: Subject | None = None,
        *,
        surrogate: bool = False,
        own: Subject | None = None,
        dtype: torch.dtype = torch.float64,
        device: str = "cpu",
        strict: bool = False,
        declared: bool = False,
    ) -> Setting:
        """The setting of a run: every oracle that there can be.

        Args:
            subject: The code under test.
            reference: An independent implementation.
            surrogate: Whether the gradient is meant to differ from the derivative: then nothing differentiates the
                forward.
            own: The subject's own forward, as ``subject.own_forward()`` gives it; None to do without.
            dtype: Of the primals.
            device: Where all tensors live.
            strict: Whether to hold results against the tighter tolerance.
            declared: Whether specs say which inputs are meant.
        """
        tolerance = tolerance_for(dtype, strict=strict)
        own = None if surrogate else own
        return cls(
            subject=subject,
            reference=reference,
            surrogate=surrogate,
            tolerance=tolerance,
            trusted=None if reference is None else Autograd("autograd of the reference", reference),
            own=None if own is None else Autograd("autograd of the subject's own forward", own, dtype),
            differences=None if surrogate else FiniteDifference(subject, quick_enough=tolerance.rtol),
            dtype=dtype,
            device=device,
            declared=declared,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One property of a backward.

    Attributes:
        name: As in ``--checks`` and in reports.
        proves: One sentence.
        cannot: What a pass does not mean.
        causes: What a failure usually comes from, each with its remedy.
        examine: Pure function of setting and case; the same case gives the same observation.
        applies: The reason why the check is skipped for a setting, or None.
        sizes: From which sizes its cases are drawn.
        styles: Styles of values of its cases, in turn; empty for all that the domain accepts.
        weight: Share of the example budget relative to the other checks.
        optional: Whether a subject may have nothing that it could look at (no second derivative, no rule for ``vmap``):
            the check is then skipped, and not undecided.
    """

    name: str
    proves: str
    cannot: str
    causes: tuple[tuple[str, str], ...] = ()
    examine: Callable[[Setting, Case], Observation]
    applies: Callable[[Setting], str | None] = lambda _setting: None
    sizes: SizeRange = SizeRange.ORDINARY
    styles: tuple[Style, ...] = ()
    weight: float = 1.0
    optional: bool = False
