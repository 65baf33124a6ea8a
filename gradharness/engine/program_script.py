"""A stand-alone script for a wrong VJP: its op by itself, the user's VJP beside autograd of plain PyTorch."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Sequence

import torch

from gradharness.model.subject import Gradients, Tensors
from gradharness.numerics.tolerance import tolerance_for
from gradharness.programs import tape
from gradharness.programs.agreement import Guilty, Wrong, copies, noise_floor, pristine
from gradharness.programs.op import Call
from gradharness.programs.own import OwnForward
from gradharness.programs.resolution import Step, Trace
from gradharness.scripting.definitions import Definitions, NoSourceError
from gradharness.scripting.literal import literal

_WIDTH = 70  # of the title in the first line
_LEAST = 1e-12
_COMPARED = (
    "got = {vjp}(call, *cotangents)",
    "got = got if isinstance(got, tuple) else (got,)",
    "expected = torch.autograd.grad(*used, materialize_grads=True)",
    "print('expected', *expected, '\\ngot     ', *got)",
    "for g, e in zip(got, expected, strict=True):",
    "    g = torch.zeros_like(e) if g is None else g",
    "    mean = e.abs().nan_to_num(posinf=0).sum() / max(1, e.numel())",
    "    allowed = {rtol!r} * (e.abs() + {floor!r} * mean) + {atol!r}",
    "    if g.shape != e.shape or not (((g - e).abs() <= allowed) | ~e.isfinite()).all():",
    "        sys.exit(1)",
    "sys.exit(0)",
)
_UNTOUCHED = (
    "held = [*cotangents, *call.inputs, *call.outputs]",
    "before = [t.clone() for t in held]",
    "{vjp}(call, *cotangents)",
    "print('expected', *before, '\\ngot     ', *held)",
    "sys.exit(int(not all(torch.equal(a, b) for a, b in zip(before, held))))",
)


class _ReachedError(Exception):
    """The tape is where somebody wanted to look."""


def script(trace: Trace, cotangents: Sequence[torch.Tensor], guilty: Guilty, *, trusted: bool, title: str) -> str:
    """Python source that exits with 1 while the VJP is wrong; empty where it cannot get at the VJP.

    Args:
        trace: The program.
        cotangents: Of its outputs.
        guilty: Whose VJP is wrong.
        trusted: Whether it is one of the catalogue's own: the program's source is all that there is to show.
        title: What is wrong, in one line.
    """
    step = trace.steps[guilty.step]
    if trusted or step.prepares or step.op.in_place:
        return ""
    weights = _weights(trace, cotangents, guilty.step)
    known = Definitions()
    try:
        vjp = known.expression(step.op.vjp, "vjp")
        vjp = f"({vjp})" if vjp.startswith("lambda") else vjp
        called = _called(step, known)
    except NoSourceError:
        return ""
    steps = _UNTOUCHED if guilty.wrong is Wrong.WRITES else _COMPARED
    tolerance, floor = tolerance_for(weights[0].dtype), noise_floor([*weights, *_known(guilty)]) or _LEAST
    numbers = {"rtol": tolerance.rtol, "floor": tolerance.floor, "atol": float(f"{floor:.3g}")}
    lines = [
        *_lines(pristine(trace, step), weights, called, step),
        *(line.format(vjp=vjp, **numbers) for line in steps),
    ]
    names = {node.id for node in ast.walk(ast.parse("\n".join(lines))) if isinstance(node, ast.Name)}
    maths = ", ".join(name for name in ("inf", "nan") if name in names)
    head = ["import sys", *([f"from math import {maths}"] if maths else []), "from types import SimpleNamespace", ""]
    said = title.replace('"', "'")[:_WIDTH]
    first = f'"""{said} (exits 1 while it is so, 0 once it is mended)"""'
    return "\n".join([first, "", *head, "import torch", "", *known.lines, "", *lines, ""])


def _known(guilty: Guilty) -> list[torch.Tensor]:
    return [] if guilty.expected is None else [guilty.expected]


def _called(step: Step, known: Definitions) -> str:
    """The forward as an expression of ``x0``, ``x1`` and so on."""
    names = [f"x{i}" for i in range(len(step.operands))]
    if not isinstance(step.op.forward, OwnForward):
        return step.op.source(names, step.parameters)
    forward = known.expression(step.op.forward.function, "forward")
    return f"{f'({forward})' if forward.startswith('lambda') else forward}({', '.join(names)})"


def _lines(operands: Tensors, weights: Tensors, called: str, step: Step) -> list[str]:
    """From the operands to ``call``, and ``used``, what autograd takes: outputs, inputs and cotangents."""
    names = [f"x{i}" for i in range(len(operands))]
    parameters = literal(dict(step.parameters))
    return [
        *(f"{name} = {literal(x)}.requires_grad_()" for name, x in zip(names, operands, strict=True)),
        f"inputs, cotangents = [{', '.join(names)}], {literal([*weights])}",
        f"output = {called}",
        "outputs = [*output] if isinstance(output, (tuple, list)) else [output]",
        "graphs = [(y, w) for y, w in zip(outputs, cotangents) if y.requires_grad]",
        "used = [y for y, _ in graphs], inputs, [w for _, w in graphs]",
        "saved, given = [tuple(t.detach().clone() for t in some) for some in (inputs, outputs)]",
        f"call = SimpleNamespace(inputs=saved, outputs=given, x=saved[0], y=given[0], parameters={parameters})",
    ]


def _weights(trace: Trace, cotangents: Sequence[torch.Tensor], number: int) -> Tensors:
    """The cotangents that reach a step. What runs before it on the tape is right."""
    found: list[Tensors] = []

    def look(at: int, step: Step, call: Call, weights: Tensors) -> Gradients:
        if at == number:
            found.append(copies(weights))
            raise _ReachedError
        return tape.checked_pull(at, step, call, weights)

    with contextlib.suppress(_ReachedError):
        tape.backward(trace, copies(cotangents), look)
    return found[0]
