"""From a failure to the finding that a report shows."""

from __future__ import annotations

import torch

from gradharness.engine.looking import Look
from gradharness.engine.plan import Item
from gradharness.engine.search import Failure
from gradharness.model.case import Case
from gradharness.model.verdict import Discrepancy, Fault, Finding, Severity, Witness


def finding(item: Item, failure: Failure) -> Finding:
    """The finding of a failed check."""
    return Finding(
        check=item.check,
        fault=failure.explanation.fault,
        severity=Severity.ERROR,
        message=failure.explanation.message,
        evidence=(*failure.explanation.details, *_evidence(failure.found), *_changed(failure)),
        witness=witness(failure.look, failure.found),
    )


def warning(item: Item, look: Look, found: Discrepancy) -> Finding:
    """A finding that does not fail by itself."""
    return Finding(
        check=item.check,
        fault=found.fault or Fault.UNKNOWN,
        severity=Severity.WARNING,
        message=found.detail,
        witness=witness(look, found),
    )


def plain_finding(item: Item, found: Discrepancy) -> Finding:
    """The finding of something that is wrong before there is any case."""
    return Finding(check=item.check, fault=found.fault or Fault.UNKNOWN, severity=Severity.ERROR, message=found.detail)


def _evidence(found: Discrepancy) -> tuple[str, ...]:
    lines = [found.detail] if found.detail and found.fault is None else []
    if found.oracle:
        lines.append(f"disagrees with {found.oracle}")
    return tuple(lines)


def _changed(failure: Failure) -> tuple[str, ...]:
    """What is not as it was when a case was kept."""
    given = failure.look.given
    if given is None or given.kept.entry.fault == failure.explanation.fault.value:
        return ()
    return (f"it was kept as: {given.kept.entry.fault}",)


def witness(look: Look, found: Discrepancy) -> Witness:
    """The failing case with its values, and the worst element of the discrepancy."""
    place, expected, got, bound = worst(found)
    primals = look.primals
    return Witness(
        arguments=tuple(zip(primals.names, primals.values, strict=True)),
        cotangents=look.case.cotangents if look.case is not None else (),
        recipe=look.recipe.to_json(),
        label=found.label,
        index=place,
        expected=expected,
        got=got,
        bound=bound,
        active=primals.labels,
        outputs=_outputs(look.case),
        whole=found.expected,
        whole_bound=found.bound,
        steps=found.steps,
        drawn=look.drawn,
        kept="" if look.given is None else look.given.kept.id,
    )


def _outputs(case: Case | None) -> tuple[str, ...]:
    return () if case is None else tuple(case.output_labels[i] for i in case.differentiable)


def worst(
    found: Discrepancy,
) -> tuple[tuple[int, ...] | None, complex | float | None, complex | float | None, float | None]:
    """Index, expected and got value, and tolerance, of the element that is furthest out of budget."""
    expected, got = found.expected, found.got
    if expected is None or expected.numel() == 0 or (got is not None and got.shape != expected.shape):
        return None, None, None, None
    got = torch.zeros_like(expected) if got is None else got
    bound = torch.as_tensor(found.bound, dtype=torch.float64, device=expected.device).expand(expected.shape)
    excess = torch.nan_to_num((got - expected).abs() / bound, nan=float("inf"))
    excess = torch.where(expected.isfinite(), excess, torch.zeros_like(excess))
    flat = int(excess.reshape(-1).argmax())
    place = tuple(int(i) for i in torch.unravel_index(torch.tensor(flat), expected.shape)) if expected.dim() else ()
    return place, expected.reshape(-1)[flat].item(), got.reshape(-1)[flat].item(), float(bound.reshape(-1)[flat])
