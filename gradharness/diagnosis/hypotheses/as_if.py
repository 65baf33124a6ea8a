"""Right for another value of a plain argument: a flag, a dimension or a mode that the backward does not heed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gradharness.diagnosis.asking import due_at
from gradharness.diagnosis.evidence import Evidence, Explanation, Sample, close
from gradharness.model.subject import Primals
from gradharness.model.verdict import Fault

_FEWEST = 4  # wrong elements over all samples
_MODES = ("none", "mean", "sum", "tanh", "constant", "reflect", "replicate", "circular", "nearest")

Other = Callable[[object], object]


def explain(evidence: Evidence) -> Explanation | None:
    """Got is the gradient for one fixed value of an argument, or for the opposite one, whatever its value is."""
    samples = [s for s in evidence.samples if s.elementwise]
    if len(samples) < len(evidence.samples) or sum(int(s.wrong.sum()) for s in samples) < _FEWEST:
        return None
    primals = evidence.first.case.primals
    for number, name in enumerate(primals.names):
        for words, other in _others(evidence, number):

            def holds(sample: Sample, number: int = number, other: Other = other) -> bool:
                return _is_right_with(evidence, sample, number, other)

            if all(map(holds, samples)) and all(holds(s) for s in evidence.right if s.elementwise):
                message = f"gradient of {evidence.label} is the right one for {words.format(name)}"
                return Explanation(Fault.WRONG_FOR_ARGUMENT, message, holds=holds)
    return None


def _others(evidence: Evidence, number: int) -> Iterator[tuple[str, Other]]:
    """What stands in for an argument's value, with words for it."""
    here = evidence.first.case.primals.values[number]
    seen = [s.case.primals.values[number] for s in evidence.samples]
    found = [c.primals.values[number] for c in evidence.passing] + seen
    for value in (*_values(here, evidence.first), *found):
        # A value that some failing case has does not make it right.
        if _is_plain(value) and type(value) is type(here) and not any(value == s for s in seen):
            yield f"{{}} = {value!r}, whatever {{0}} is".replace("{}", "{0}"), lambda _v, value=value: value  # type: ignore[misc]
    if isinstance(here, bool):
        yield "the opposite of {0}", lambda v: not v
    elif isinstance(here, int):
        yield "{0} + 1", lambda v: v + 1 if isinstance(v, int) else v
        yield "{0} - 1", lambda v: v - 1 if isinstance(v, int) else v
    elif isinstance(here, float):
        yield "minus {0}", lambda v: -v if isinstance(v, float) else v
        yield "1 - {0}", lambda v: 1 - v if isinstance(v, float) else v


def _values(here: object, sample: Sample) -> tuple[object, ...]:
    if isinstance(here, bool):
        return (False, True)
    if isinstance(here, int):
        dims = max((x.dim() for x in sample.case.primals.leaves), default=0)
        return (*range(max(dims, 2)), -1)
    if isinstance(here, float):
        return (0.0, 1.0)
    return _MODES if isinstance(here, str) else ()


def _is_plain(value: object) -> bool:
    return isinstance(value, (bool, int, float, str))


def _is_right_with(evidence: Evidence, sample: Sample, number: int, other: Other) -> bool:
    """Whether it is the gradient where an argument has the other value."""
    primals = sample.case.primals
    if not sample.elementwise or not _is_plain(primals.values[number]):
        return False
    values = list(primals.values)
    values[number] = other(values[number])
    there = due_at(evidence, sample.case, Primals(primals.names, tuple(values), primals.active))
    return there is not None and close(sample.got, there, sample.found.bound)
