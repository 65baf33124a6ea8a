"""How the stand-alone script of a finding gets at each kind of subject."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import replace
from types import CodeType

import torch

from gradharness.checks.training_script import MARK
from gradharness.model.subject import Subject
from gradharness.model.verdict import Finding, Report, Witness
from gradharness.report.module_source import module_source
from gradharness.report.reproduction import Failure, SubjectSource, import_lines, script, source_of
from gradharness.subjects import FunctionSubject, ManualSubject, PairSubject
from gradharness.subjects.module_function import ModuleFunction

_MOST = 100_000  # elements that a script may hold; the seed replays what is larger


def reproduced(report: Report, subject: Subject) -> dict[int, Finding]:
    """Every finding whose witness a script can hold, by its ``id``, with its reproducer."""
    return {
        id(f): replace(f, reproducer=script(_source(subject, f.witness), _failure(f.witness)))
        for f in report.findings
        if f.witness is not None and f.witness.elements <= _MOST
    }


def _failure(witness: Witness) -> Failure:
    return Failure(
        arguments=witness.arguments,
        active=witness.active,
        cotangents=witness.cotangents,
        label=witness.label,
        expected=witness.whole,
        bound=witness.whole_bound,
        steps=witness.steps,
    )


def _source(subject: Subject, witness: Witness) -> SubjectSource:
    names = [name for name, _ in witness.arguments]
    if isinstance(subject, ManualSubject):
        return _manual_source(subject, witness)
    if isinstance(subject, PairSubject):
        return _pair_source(subject, names, witness)
    assert isinstance(subject, FunctionSubject)
    if isinstance(subject.function, ModuleFunction):
        return module_source(subject.function, names)
    return source_of(subject.function, names)


def _pair_source(subject: PairSubject, names: list[str], witness: Witness) -> SubjectSource:
    forward, vjp = (source_of(f, names) for f in (subject.forward, subject.vjp))
    called = vjp.call.partition("(")[0]
    arguments = ", ".join([*names, "*cotangents"])
    chosen = ", ".join(str(names.index(label)) for label in witness.active if label in names)
    pullback = (
        f"returned = {called}({arguments})",
        "returned = returned if isinstance(returned, tuple) else (returned,)",
    )
    imported = (*forward.import_lines, *vjp.import_lines) if forward.import_lines and vjp.import_lines else ()
    return SubjectSource(
        import_lines=tuple(dict.fromkeys(imported)),
        call=forward.call,
        pullback=(*pullback, f"return [returned[i] for i in ({chosen},)]"),
        start=(
            "call_subject(*arguments.values())",
            "return lambda w: gradients(*arguments.values(), leaves, w)",
        ),
    )


def _manual_source(subject: ManualSubject, witness: Witness) -> SubjectSource:
    names = [name.replace(".", "_") for name, _ in witness.arguments]
    trains = any(MARK in line for line in witness.steps)
    of_class = ("gradients", "forward", "backward") if subject.loop is None else ()
    named = ("build", "loss", *of_class, *(("optimize", "optimizer", "loop") if trains else ()))
    pieces = {k: v for k in named if callable(v := getattr(subject, k))}
    texts = {what: _text(what, function) for what, function in pieces.items()}
    if any(text is None for text in texts.values()):
        return SubjectSource(import_lines=(), call=f"{subject.name}  # manual class", pullback=("return []",))
    lines = [line for text in texts.values() if text is not None for line in text]
    if subject.loop is not None:
        return SubjectSource(import_lines=tuple(dict.fromkeys(lines)), call="None", pullback=("return []",))
    run, output = _run_lines(subject, names)
    places = ", ".join(f"found.get({label!r}, found.get({_position(label, witness)}))" for label in witness.active)
    backward = _backward_line(subject, names)
    return SubjectSource(
        import_lines=(
            *dict.fromkeys(line for line in lines if line.startswith(("sys.path", "from "))),
            *(line for line in lines if not line.startswith(("sys.path", "from "))),
            f"def run_subject({', '.join(names)}):",
            *(f"    {line}" for line in run),
            f"    return obj, raw, {output}",
        ),
        call=f"run_subject({', '.join(names)})[2]",
        pullback=(
            f"obj, raw, _ = run_subject({', '.join(names)})",
            backward,
            "found = subject_gradients(obj)",
            f"return [{places}]",
        ),
        start=(
            "plain = [v.detach() if isinstance(v, torch.Tensor) else v for v in arguments.values()]",
            f"{', '.join(names)}, = plain",
            *("if obj is None:", *(f"    {line}" for line in run[:-1])),
            run[-1],
            "def pull(cotangents):",
            *(f"    {line}" for line in (backward, "found = subject_gradients(obj)", f"return [{places}]")),
            "pull.obj = obj",
            "return pull",
        ),
    )


def _position(label: str, witness: Witness) -> int:
    return [name for name, _ in witness.arguments].index(label.partition("[")[0])


def _run_lines(subject: ManualSubject, names: list[str]) -> tuple[list[str], str]:
    states, targets = len(subject.state), len(subject.targets)
    calls = len(names) - states
    forward_names = ", ".join(names[: calls - targets])
    lines = ["obj = subject_build()"]
    for attribute, name in zip(subject.state, names[calls:], strict=True):
        lines.append(f"obj.{attribute} = {name}.detach()")
    called = (
        f"obj.{subject.forward}({forward_names})"
        if isinstance(subject.forward, str)
        else f"subject_forward(obj, {forward_names})"
    )
    lines.append(f"raw = {called}")
    output = "raw" if subject.loss is None else f"subject_loss({', '.join(['raw', *names[calls - targets : calls]])})"
    return lines, output


def _backward_line(subject: ManualSubject, names: list[str]) -> str:
    states, targets = len(subject.state), len(subject.targets)
    calls = len(names) - states
    if callable(subject.backward):
        outputs = "raw if isinstance(raw, tuple) else (raw,)"
        return f"subject_backward(obj, ({', '.join(names)},), {outputs}, tuple(cotangents))"
    if subject.loss is not None:
        arguments = [*names[: calls - targets], "raw", *names[calls - targets : calls]]
        return f"obj.{subject.backward}({', '.join(arguments)})"
    return f"obj.{subject.backward}(*cotangents)"


def _text(what: str, function: Callable[..., object]) -> tuple[str, ...] | None:
    """Lines that define ``build``, ``gradients`` and so on: an import, or the source of a lambda."""
    if isinstance(function, torch.nn.Module):
        return _module_text(what, function)
    name = getattr(function, "__qualname__", "")
    if name and "<" not in name:
        imported = import_lines(function, name.partition(".")[0])
        if imported:
            return (*imported, f"subject_{what} = {name}")
    source = _lambda_source(function)
    return None if source is None else (f"subject_{what} = {source}",)


def _module_text(what: str, module: torch.nn.Module) -> tuple[str, ...] | None:
    """A loss of torch's own, such as ``torch.nn.MSELoss(reduction='sum')``."""
    name = type(module).__name__
    if getattr(torch.nn, name, None) is not type(module):
        return None
    reduction = f"reduction={module.reduction!r}" if hasattr(module, "reduction") else ""
    return (f"subject_{what} = torch.nn.{name}({reduction})",)


def _lambda_source(function: Callable[..., object]) -> str | None:
    """Source of a lambda without free variables; None if it cannot be told apart."""
    code = getattr(function, "__code__", None)
    if code is None or code.co_freevars:
        return None
    try:
        lines, _ = inspect.getsourcelines(function)
    except (OSError, TypeError):
        return None
    text = textwrap.dedent("".join(lines)).strip()
    for start in (m.start() for m in re.finditer(r"\blambda\b", text)):
        for end in range(len(text), start, -1):
            if _is_code_of(text[start:end], code):
                return text[start:end]
    return None


def _is_code_of(source: str, code: CodeType) -> bool:
    """Whether some source compiles to just this lambda; a line may hold several, one within another."""
    try:
        tree = ast.parse(source, mode="eval")
        compiled = compile(tree, "<lambda>", "eval").co_consts[0]
    except (SyntaxError, ValueError, IndexError):
        return False
    parts = ("co_code", "co_names", "co_varnames")
    alone = isinstance(tree.body, ast.Lambda) and isinstance(compiled, CodeType)
    return alone and all(getattr(compiled, part) == getattr(code, part) for part in parts)
