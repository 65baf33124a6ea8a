"""A stand-alone script for a finding. It needs torch and the subject's module, and nothing of gradharness.

It prints what is expected and what came, and exits 1 while the fault is there, 0 once it is gone.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from gradharness.report.failure import Failure, SubjectSource
from gradharness.scripting.definitions import COPIED, COPY_ENDS
from gradharness.scripting.literal import FILL_IN, literal

# The limit is for what is ours: a subject that cannot be imported is copied between two marks, and not counted.
LINES = 30  # a script that is shorter gets empty lines between its parts
_WIDTH = 113
_HEAD = ("import sys", "import torch")
# What a script calls its own; an argument of such a name gets another one.
_RESERVED = frozenset(
    [
        "sys",
        "torch",
        "inf",
        "nan",
        "itertools",
        "copy",
        "leaves",
        "cotangent",
        "cotangents",
        "output",
        "outputs",
        "outputs_of",
        "start",
        "got",
        "expected",
        "allowed",
        "near",
        "leaf",
        "loss",
        "arguments",
        "found",
        "returned",
        "obj",
        "module",
        "pull",
    ]
)
# Without an expected value the script measures one, by central differences along every element.
_TOLERANCE = {torch.float64: 1e-5, torch.complex128: 1e-5, torch.float32: 1e-2, torch.complex64: 1e-2}
_STEP = {torch.float64: 1e-6, torch.complex128: 1e-6, torch.float32: 1e-2, torch.complex64: 1e-2}
_COARSE = 5e-2


def counted(lines: Iterable[str]) -> int:
    """Lines of a script without those between the marks of what is copied, which are the user's."""
    count, copied = 0, False
    for line in lines:
        copied = (copied or line == COPIED) and line != COPY_ENDS
        count += not copied and line != COPY_ENDS
    return count


def script(source: SubjectSource, failure: Failure) -> str:
    """Python source that shows a failure, and exits 1 while it is there."""
    names = {name: identifier(name, _RESERVED | source.names) for name, _ in failure.arguments}
    text = _assembled(
        source, failure, _by_steps(source, failure, names) if failure.steps else _plain(source, failure, names)
    )
    if failure.steps and counted(text) > LINES:
        text = _assembled(source, failure, _by_steps(source, failure, names, compact=True))
    return "\n".join(text) + "\n"


def _assembled(source: SubjectSource, failure: Failure, body: list[list[str]]) -> list[str]:
    """All lines of a script, from its docstring to the end of its body."""
    used = _names("\n".join(line for part in body for line in part))
    folders = [line for line in source.definitions if line.startswith("sys.path.")]
    defined = [line for line in source.definitions if line not in folders]
    imported = [line for line in defined if line.startswith(("from ", "import "))]
    maths = ", ".join(name for name in ("inf", "nan") if name in used | _names("\n".join(defined)))
    standard = [f"import {name}" for name in ("copy", "itertools") if name in used]
    parts = [
        [_docstring(failure.title)],
        [*standard, *_HEAD[:1], *([f"from math import {maths}"] if maths else []), *_HEAD[1:]],
        [*folders, *_merged(imported), *_fill_in(source.missing)],
        [line for line in defined if line not in imported],
        *body,
    ]
    return [*_spaced([part for part in parts if part])]


def _merged(imports: Sequence[str]) -> list[str]:
    """Import lines, with one line for all that comes from one module."""
    found: dict[str, list[str]] = {}
    for line in imports:
        module, _, name = line.partition(" import ")
        found.setdefault(module if name else line, []).extend([name] if name else [])
    return [f"{module} import {', '.join(names)}" if names else module for module, names in found.items()]


def _docstring(title: str) -> str:
    """The first line: what is wrong, as far as there is room."""
    text = " ".join(title.replace("\\", "/").replace('"', "'").split())
    end = " (exits 1 while it is so, 0 once it is mended)"
    room = _WIDTH - len(end)
    text = text if len(text) <= room else text[: room - 1].rsplit(" ", 1)[0] + "…"
    return f'"""{text}{end}"""'


def _spaced(parts: list[list[str]]) -> Iterable[str]:
    """Lines with an empty one between parts, as far as the script stays short."""
    spare = LINES - sum(map(counted, parts))
    for number, part in enumerate(parts):
        if number and number <= spare:
            yield ""
        yield from part


def _names(text: str) -> set[str]:
    """Names that a text refers to."""
    return {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}


def _fill_in(missing: str) -> tuple[str, ...]:
    if not missing:
        return ()
    return (
        f"# {FILL_IN}: write {missing}, and delete the next line.",
        f"sys.exit(print({f'{FILL_IN}: {missing}'!r}) or 2)",
    )


# --- where a plain backward shows it ---------------------------------------------------------------------------------


def _plain(source: SubjectSource, failure: Failure, names: dict[str, str]) -> list[list[str]]:
    alone = failure.alone if source.traced else None
    inputs = [
        f"{names[name]} = {literal(value)}" + (".requires_grad_()" if number == alone else "")
        for number, (name, value) in enumerate(failure.arguments)
    ]
    if source.traced and alone is None:
        attached = ", ".join(f"{_place(label, names)}.requires_grad_()" for label in failure.active)
        inputs.append(f"leaves = [{attached}]")
    arguments = [*names.values()]
    if failure.is_output and failure.expected is not None:
        last = [*source.forward(arguments), f"got = {failure.label}.detach()"]
        return [inputs, last, _judged(failure, detached=True)]
    if failure.cotangents:
        inputs.append(cotangent_line(failure))
    elif source.traced and (failure.is_output or failure.label in failure.active):
        return [inputs, [*source.forward(arguments), *_CONNECTED]]
    if failure.label not in failure.active:
        return [inputs, _raising(source, failure, arguments)]
    number = failure.active.index(failure.label)
    run = [*source.forward(arguments), *source.backward(failure, arguments, number)]
    if failure.expected is not None and failure.repeats > 1:
        return [inputs, *_again(failure, run, detached=source.traced)]
    if failure.expected is not None:
        return [inputs, run, _judged(failure, detached=source.traced)]
    leaf = _place(failure.label, names)
    return [inputs, run, _differences(source, failure, leaf, arguments)]


_CONNECTED = (
    "outputs = [*output.values()] if isinstance(output, dict) else output",
    "outputs = outputs if isinstance(outputs, (tuple, list)) else [outputs]",
    "print('expected an output that requires grad, got', output)",
    "sys.exit(0 if any(isinstance(t, torch.Tensor) and t.requires_grad for t in outputs) else 1)",
)


def _raising(source: SubjectSource, failure: Failure, arguments: list[str]) -> list[str]:
    """Runs forward and backward: that one of them raises is the fault."""
    lines = ["print('expected: no exception; got:')", *source.forward(arguments)]
    if failure.cotangents:
        lines += source.backward(failure, arguments, 0)
    return [*lines, "print('no exception')", "sys.exit(0)"]


def _judged(failure: Failure, *, detached: bool) -> list[str]:
    """Compares ``got`` with what is expected, prints and exits."""
    assert failure.expected is not None
    missing = [] if detached else ["got = torch.zeros_like(expected) if got is None else got"]
    return [
        f"expected = {literal(failure.expected)}",
        f"allowed = {_allowed(failure.bound)}",
        "print('expected', expected, '\\ngot     ', got)",
        *missing,
        *_verdict(finite=bool(failure.expected.isfinite().all())),
    ]


def _again(failure: Failure, run: Sequence[str], *, detached: bool) -> list[list[str]]:
    """Runs and compares several times, as equal calls give different gradients."""
    expected, allowed, *rest = _judged(failure, detached=detached)
    body = [*run, *rest[:-1], "if got.shape != expected.shape or not near.all():", "    sys.exit(1)"]
    again = f"for _ in range({failure.repeats}):  # equal calls differ"
    return [[expected, allowed], [again, *(f"    {line}" for line in body), "sys.exit(0)"]]


def _verdict(*, finite: bool) -> tuple[str, str]:
    near = "near = (got - expected).abs() <= allowed"
    if not finite:
        near = "near = ((got - expected).abs() <= allowed) | (got == expected) | (got.isnan() & expected.isnan())"
    return near, "sys.exit(0 if got.shape == expected.shape and near.all() else 1)"


def _allowed(bound: torch.Tensor | float) -> str:
    """The allowed error; one number where all elements have the same."""
    if isinstance(bound, torch.Tensor) and bound.numel() and bool((bound == bound.reshape(-1)[0]).all()):
        bound = bound.reshape(-1)[0].item()
    return literal(bound) if isinstance(bound, torch.Tensor) else repr(_rounded_up(float(bound)))


def _rounded_up(value: float) -> float:
    """To three digits: nobody needs more of a tolerance."""
    return float(f"{1.005 * value:.2e}") if value and math.isfinite(value) else value


def _differences(source: SubjectSource, failure: Failure, leaf: str, arguments: list[str]) -> list[str]:
    """Compares ``got`` with central differences along every element."""
    dtype = failure.cotangents[0].dtype if failure.cotangents else torch.float64
    step, tolerance = _STEP.get(dtype, _COARSE), _TOLERANCE.get(dtype, _COARSE)
    slope = "(loss(i, h) - loss(i, -h)) / (2 * h)"
    value = dict(failure.arguments).get(failure.label)
    if isinstance(value, torch.Tensor) and value.is_complex():
        slope = "sum(u * (loss(i, h * u) - loss(i, -h * u)) for u in (1, 1j)) / (2 * h)"
    weighed = f"(({failure.labels[0]}.detach() * cotangent.conj()).sum().real).item()"
    if len(failure.cotangents) != 1:
        weighed = f"sum((y.detach() * w.conj()).sum().real.item() for y, w in zip({failure.results}, cotangents))"
    return [
        f"leaf, h = {leaf}.detach(), {step!r}",
        "def loss(i, step):",
        "    before = leaf[i].item()",
        "    leaf[i] = before + step",
        *(f"    {line}" for line in source.forward(arguments)),
        "    leaf[i] = before",
        f"    return {weighed}",
        "expected = torch.zeros_like(leaf)",
        "for i in itertools.product(*map(range, leaf.shape)):  # central differences",
        f"    expected[i] = {slope}",
        f"allowed = {tolerance!r} * (1 + expected.abs().max())",
        "print('expected', expected, '\\ngot     ', got)",
        *([] if source.traced else ["got = torch.zeros_like(expected) if got is None else got"]),
        *_verdict(finite=True),
    ]


# --- where it takes other steps ---------------------------------------------------------------------------------------


def _by_steps(
    source: SubjectSource, failure: Failure, names: dict[str, str], *, compact: bool = False
) -> list[list[str]]:
    """Helpers, inputs and the steps; where ``compact`` is asked for, all inputs stand on one line if they can."""
    failure = _with_one_call(source, failure, names)
    used = _names("\n".join(failure.steps))
    start = source.start(failure) if "start" in used else ()
    needed = used | _names("\n".join(start)) - {"leaves", "arguments"}  # which are its own
    outputs_of = _outputs_of(source, failure) if "outputs_of" in needed else ()
    if "outputs_of" not in used and len(outputs_of) == 2:  # one line, where nobody else asks
        given = outputs_of[-1].strip().removeprefix("return ")
        start, outputs_of = tuple(line.replace("outputs_of(arguments)", given) for line in start), ()
    helpers = [*outputs_of, *start]
    grad = ".requires_grad_()" if source.traced or "autograd" in " ".join(failure.steps) else ""
    items = ", ".join(f"{name!r}: {own}" for name, own in names.items())
    leaves = ", ".join(f"{_place(label, names)}{grad}" for label in failure.active)
    inputs = [f"{names[name]} = {literal(value)}" for name, value in failure.arguments]
    if compact and "arguments" in used and not used & {*names.values()}:
        held = {name: f"arguments[{name!r}]" for name in names}
        leaves = ", ".join(f"{_place(label, held)}{grad}" for label in failure.active)
        inputs = [f"arguments = {literal(dict(failure.arguments))}"]
        used -= {"arguments"}
    if "leaves" in needed:
        inputs.append(f"leaves = [{leaves}]")
    elif grad and failure.active and used & {"arguments", *names.values()}:
        inputs += [f"{_place(label, names)}{grad}" for label in failure.active]
    if "arguments" in used:
        inputs.append(f"arguments = {{{items}}}")
    if "cotangents" in used:
        inputs.append(f"cotangents = {literal([*failure.cotangents])}")
    return [helpers, inputs, [*failure.steps]]


def _with_one_call(source: SubjectSource, failure: Failure, names: dict[str, str]) -> Failure:
    """With the call itself in place of the only ``outputs_of(arguments)``, where nothing else needs either."""
    text = "\n".join(failure.steps)
    forward = source.forward([*names.values()])
    if (
        text.count("outputs_of(arguments)") != 1
        or "start" in text
        or len(forward) != 1
        or failure.labels != ("output",)
    ):
        return failure
    called = f"[{forward[0].removeprefix('output = ')}]"
    return replace(failure, steps=tuple(text.replace("outputs_of(arguments)", called).splitlines()))


def _outputs_of(source: SubjectSource, failure: Failure) -> tuple[str, ...]:
    forward = source.forward(("*arguments.values()",))
    last = forward[-1].removeprefix("output = ")
    if failure.labels == ("output",):
        body = (*forward[:-1], f"return [{last}]")
    else:
        body = (*forward, f"return {failure.results}")
    return ("def outputs_of(arguments):", *(f"    {line}" for line in body))


def cotangent_line(failure: Failure) -> str:
    """Gives ``cotangent`` (a tensor), or ``cotangents`` (a list, where there is not exactly one), its value."""
    if len(failure.cotangents) == 1:
        return f"cotangent = {literal(failure.cotangents[0])}"
    return f"cotangents = {literal([*failure.cotangents])}"


def identifier(name: str, taken: Iterable[str] = ()) -> str:
    """A name such as ``0.weight`` as Python takes it: ``_0_weight``; with ``_`` after it if it is taken."""
    plain = re.sub(r"\W", "_", name)
    plain = plain if plain.isidentifier() else f"_{plain}"
    return f"{plain}_" if plain in taken else plain


def _place(label: str, names: dict[str, str]) -> str:
    """``xs[0]`` in the script's own names."""
    name, bracket, rest = label.partition("[")
    return f"{names.get(name, identifier(name))}{bracket}{rest}"
