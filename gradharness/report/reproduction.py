"""A stand-alone script for a finding. It needs torch and the subject's module, and nothing of gradharness.

It prints what is expected and what came, and exits 1 while the fault is there, 0 once it is gone.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gradharness.report.literal import FILL_IN, literal

# Without an expected value the script measures one, by central differences along every element.
DIFFERENCE_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-2}
DIFFERENCE_STEP = {torch.float64: 1e-6, torch.float32: 1e-2}
COARSE = 5e-2

AUTOGRAD = (
    "outputs = [t for t in tensors(call_subject({parameters})) if t.requires_grad]",
    "return torch.autograd.grad(outputs, leaves, cotangents, allow_unused=True)",
)


START = (
    "outputs = [t for t in tensors(call_subject(*arguments.values())) if t.requires_grad]",
    "return lambda w: torch.autograd.grad(outputs, leaves, w, retain_graph=True, allow_unused=True)",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectSource:
    """How a script gets at the subject.

    Attributes:
        import_lines: Import the names that ``call`` and ``pullback`` use. Empty if they cannot be imported: the script
            then has a marked place where they are to be filled in.
        call: An expression in the arguments' names (a dot in a name becomes ``_``) that gives the outputs.
        pullback: Body of a function of the arguments, ``leaves`` and ``cotangents`` that returns one gradient for each
            active argument; empty for ``torch.autograd.grad``.
        start: Body of a function of ``arguments`` (a dict), ``leaves`` and ``obj`` (None for a fresh one) that runs
            forward and returns a function of the cotangents that runs backward; empty for ``torch.autograd.grad``.
    """

    import_lines: tuple[str, ...]
    call: str
    pullback: tuple[str, ...] = ()
    start: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a script has to show.

    Attributes:
        arguments: (name, value) of every argument.
        active: Labels of the differentiated tensors, such as ``x`` or ``xs[0]``.
        cotangents: One per differentiable output.
        label: The gradient (an active label) or the output that is wrong; anything else just runs backward.
        expected: The right value; None if no oracle gave every element.
        bound: Allowed absolute error.
        steps: Lines in place of the comparison, where a plain backward does not show the fault.
    """

    arguments: tuple[tuple[str, object], ...]
    active: tuple[str, ...]
    cotangents: Sequence[torch.Tensor | None]
    label: str
    expected: torch.Tensor | None = None
    bound: torch.Tensor | float = 0.0
    steps: tuple[str, ...] = ()


def reproducer(
    *,
    import_lines: tuple[str, ...],
    call: str,
    arguments: tuple[tuple[str, object], ...],
    active: tuple[str, ...],
    cotangents: Sequence[torch.Tensor | None],
    label: str,
    expected: torch.Tensor | None,
    bound: torch.Tensor | float,
) -> str:
    """Python source that shows a wrong gradient of something that goes through autograd. See ``script``."""
    return script(
        SubjectSource(import_lines=import_lines, call=call),
        Failure(arguments=arguments, active=active, cotangents=cotangents, label=label, expected=expected, bound=bound),
    )


def script(source: SubjectSource, failure: Failure) -> str:
    """Python source that shows a failure, and exits 1 while it is there."""
    parameters = ", ".join(identifier(name) for name, _ in failure.arguments)
    pullback = source.pullback or tuple(line.format(parameters=parameters) for line in AUTOGRAD)
    lines = [
        f'"""Shows that {failure.label or "backward"} is wrong. Exits 1 while it is, 0 when it is right."""',
        "import sys",
        "from math import inf, nan",
        "import torch",
        *(source.import_lines or _fill_in(source.call)),
        f"def call_subject({parameters}):",
        f"    return {source.call}",
        f"def gradients({', '.join(filter(None, [parameters, 'leaves', 'cotangents']))}):",
        *(f"    {line}" for line in pullback),
        *_tensors(source, failure),
        *_start(source, failure),
        "arguments = {",
        *(f"    {name!r}: {literal(value)}," for name, value in failure.arguments),
        "}",
        f"leaves = [{', '.join(f'{_place(label)}.requires_grad_()' for label in failure.active)}]",
        f"cotangents = {literal([*failure.cotangents])}",
        *_comparison(failure),
    ]
    return "\n".join(lines) + "\n"


def source_of(function: object, names: Sequence[str]) -> SubjectSource:
    """How to import a function (or an autograd Function's class) and call it with arguments of these names.

    The import is empty where there is none: a lambda, a local function, a notebook.
    """
    target = inspect.unwrap(function) if callable(function) else function
    target = getattr(target, "_init_fn", target)  # what a custom op was made of, and is named after
    owner = getattr(target, "__self__", None)
    target = owner if isinstance(owner, type) else target
    root, *rest = getattr(target, "__qualname__", "<unknown>").split(".")
    call = ".".join([root, *rest]) + _suffix(target, root)
    imported = () if "<" in call else import_lines(target, root)
    return SubjectSource(import_lines=imported, call=f"{call}({', '.join(map(identifier, names))})")


def import_lines(obj: object, name: str) -> tuple[str, ...]:
    """Lines that import ``name`` from the module that defines ``obj``; empty if that has no file."""
    module = sys.modules.get(getattr(obj, "__module__", None) or "")
    file = getattr(module, "__file__", None)
    if module is None or file is None or not hasattr(module, name):
        return ()
    path = Path(file).resolve()
    parts = module.__name__.split(".")
    stem = path.parent.parts if path.name == "__init__.py" else path.with_suffix("").parts
    if list(stem[-len(parts) :]) != parts:  # loaded by its path: __main__, or under a name made up
        parts = [path.stem]
    if not all(part.isidentifier() for part in parts):
        return ()
    folder = Path(*stem[: -len(parts)])
    return (f"sys.path.insert(0, {str(folder)!r})", f"from {'.'.join(parts)} import {name}")


def _suffix(target: object, root: str) -> str:
    """What has to follow a name so that calling it calls the subject itself."""
    if isinstance(target, type) and issubclass(target, torch.autograd.Function):
        return ".apply"
    found = getattr(sys.modules.get(getattr(target, "__module__", None) or ""), root, None)
    # The decorated test's name is the test; the function that it was made of is the subject.
    return ".function" if getattr(type(found), "__gradharness__", False) else ""


def _fill_in(call: str) -> tuple[str, ...]:
    return (
        f"# {FILL_IN}: import or paste what `{' '.join(call.split())}` uses, and delete the next line.",
        f"print({f'{FILL_IN}: the subject could not be imported; see the marked line'!r}); sys.exit(2)",
    )


def _tensors(source: SubjectSource, failure: Failure) -> tuple[str, ...]:
    """A helper that flattens outputs, where it is needed."""
    if not failure.steps and source.pullback and failure.expected is not None and not _is_output(failure.label):
        return ()
    return (
        "def tensors(value):",
        "    items = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()",
        "    return [value] if isinstance(value, torch.Tensor) else [t for item in items for t in tensors(item)]",
    )


def _start(source: SubjectSource, failure: Failure) -> tuple[str, ...]:
    """A helper that runs forward now and backward later, where steps ask for it."""
    if not any("start(" in line for line in failure.steps):
        return ()
    return ("def start(arguments, leaves, obj=None):", *(f"    {line}" for line in source.start or START))


def _comparison(failure: Failure) -> list[str]:
    """Gets the value in question, compares, prints, exits."""
    if failure.steps:
        return [*failure.steps]
    compare = [
        "print('expected', expected, '\\ngot     ', got, '\\nallowed ', bound)",
        "got = torch.zeros_like(expected) if got is None else got",
        "near = ((got - expected).abs() <= bound) | (got == expected) | ((got != got) & (expected != expected))",
        "sys.exit(int(got.shape != expected.shape or not near.all()))",
    ]
    run = "gradients(*arguments.values(), leaves, cotangents)"
    if failure.label in failure.active:
        number = failure.active.index(failure.label)
        return [f"got = {run}[{number}]", *_expected(failure, number), *compare]
    if _is_output(failure.label) and failure.expected is not None:
        place = failure.label.removeprefix("output")
        return [
            f"got = call_subject(*arguments.values()){place}.detach()",
            *_expected(failure, 0),
            *compare,
        ]
    return [f"print({run})  # the fault is that this raises", "sys.exit(0)"]


def _expected(failure: Failure, number: int) -> list[str]:
    if failure.expected is not None:
        bound = failure.bound if isinstance(failure.bound, torch.Tensor) else float(failure.bound)
        return [f"expected = {literal(failure.expected)}", f"bound = {literal(bound)}"]
    dtype = next((c.dtype for c in failure.cotangents if c is not None), torch.float64)
    step, tolerance = DIFFERENCE_STEP.get(dtype, COARSE), DIFFERENCE_TOLERANCE.get(dtype, COARSE)
    return [
        "def loss():",
        "    chosen = [t for t in tensors(call_subject(*arguments.values())) if t.is_floating_point()]",
        "    return sum((t.detach() * w).sum() for t, w in zip(chosen, cotangents) if w is not None)",
        f"leaf = leaves[{number}].detach()",
        "expected = torch.zeros_like(leaf)",
        "for i in __import__('itertools').product(*map(range, leaf.shape)):  # central differences",
        f"    value, h = leaf[i].item(), {step!r} * max(1, abs(leaf[i].item()))",
        "    leaf[i] = value + h; high = loss(); leaf[i] = value - h; low = loss(); leaf[i] = value",
        "    expected[i] = (high - low) / (2 * h)",
        f"bound = {tolerance!r} * (1 + expected.abs().max())",
    ]


def _is_output(label: str) -> bool:
    return label == "output" or label.startswith("output[")


def identifier(name: str) -> str:
    """A name such as ``0.weight`` as Python takes it: ``_0_weight``."""
    plain = re.sub(r"\W", "_", name)
    return plain if plain.isidentifier() else f"_{plain}"


def _place(label: str) -> str:
    """``xs[0]`` as an expression in the dict of arguments."""
    name, bracket, rest = label.partition("[")
    return f"arguments[{name!r}]{bracket}{rest}"
