"""The error itself has a form: along a dimension it is a multiple of a known tensor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import torch

from gradharness.diagnosis.evidence import Evidence, Explanation, Sample
from gradharness.diagnosis.operations import known_tensors
from gradharness.model.verdict import Fault

_FREE = 8  # elements, over all samples, that the multiples leave to be explained
_LONGEST = 3  # dimensions
_ACCURACY = 1e-6
_ONE = "1"


@dataclass(frozen=True, slots=True)
class _Form:
    """The error is, for each place of the other dimensions, a sum of multiples of these.

    Attributes:
        names: Of the tensors.
        axes: Dimensions along which a multiple is the same.
    """

    names: tuple[str, ...]
    axes: tuple[int, ...]


def explain(evidence: Evidence) -> Explanation | None:
    """Got - expected is a number times 1, a primal, the output, or the cotangent, for each row, in every case."""
    samples = evidence.samples
    if not all(s.elementwise and s.leaf is not None and not s.expected.is_complex() for s in samples):
        return None
    if not all(bool(s.got.isfinite().all()) and bool(s.expected.isfinite().all()) for s in samples):
        return None
    trial = max(samples, key=lambda s: s.expected.numel())
    for form in _forms(trial):
        if _fit(trial, form) is None:
            continue

        def holds(sample: Sample, form: _Form = form) -> bool:
            return _fit(sample, form) is not None

        if all(_fit(s, form, of=s.expected) is not None for s in samples):
            continue  # whatever such a gradient is off by has this form
        left = [_fit(s, form) for s in samples]
        if all(f is not None for f in left) and sum(f or 0 for f in left) >= _FREE:
            words = _in_words(form, evidence.first.expected.dim())
            message = f"the error of the gradient of {evidence.label} is {words}: such a term is missing, or is wrong"
            return Explanation(Fault.MISSING_TERM, message, holds=holds)
    return None


def _in_words(form: _Form, dims: int) -> str:
    what = " plus ".join("a constant" if name == _ONE else f"a multiple of {name}" for name in form.names)
    if len(form.axes) == dims:
        return what
    along = f"dimension {form.axes[0]}" if len(form.axes) == 1 else f"dimensions {' and '.join(map(str, form.axes))}"
    return f"{what} along {along}"


def _forms(sample: Sample) -> Iterator[_Form]:
    """The whole tensor first, then what has more freedom; one tensor, then two."""
    dims = sample.expected.dim()
    if not 1 <= dims <= _LONGEST:
        return
    names = [_ONE, *(n for n, t in known_tensors(sample.case).items() if _wide(t, sample) is not None)]
    for several in (1, 2):
        for count in range(dims, 0, -1):
            for axes in combinations(range(dims), count):
                for chosen in combinations(names, several):
                    yield _Form(chosen, axes)


def _wide(tensor: torch.Tensor, sample: Sample) -> torch.Tensor | None:
    if tensor.is_complex() or not tensor.is_floating_point() or tensor.numel() < 2:
        return None
    return tensor.to(sample.expected.dtype) if tensor.shape == sample.expected.shape else None


def _fit(sample: Sample, form: _Form, of: torch.Tensor | None = None) -> int | None:
    """How many elements more than multiples it explains, of the error or something else; None where it does not."""
    if not sample.elementwise:
        return None
    error = sample.got.to(sample.expected.dtype) - sample.expected if of is None else of
    if error.dim() <= max(form.axes):
        return None
    columns = []
    for name in form.names:
        known = None if name == _ONE else known_tensors(sample.case).get(name)
        wide = torch.ones_like(error) if name == _ONE else None if known is None else _wide(known, sample)
        if wide is None:
            return None
        columns.append(_rows(wide, form.axes))
    rows = _rows(error, form.axes)
    basis = torch.stack(columns, -1)  # row, element, tensor
    solved = torch.linalg.pinv(basis) @ rows[..., None]
    rest = (basis @ solved)[..., 0] - rows
    bound = _rows(torch.as_tensor(sample.found.bound).expand(error.shape), form.axes)
    if not bool((rest.abs() <= _ACCURACY * rows.abs().max() + bound).all()):
        return None
    return max(0, rows.shape[1] - len(form.names)) * int((rows.abs() > bound).any(1).sum())


def _rows(tensor: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    """A row for each place of the other dimensions."""
    others = [d for d in range(tensor.dim()) if d not in axes]
    turned = tensor.permute(*others, *axes)
    count = 1
    for d in others:
        count *= tensor.shape[d]
    return turned.reshape(count, -1)
