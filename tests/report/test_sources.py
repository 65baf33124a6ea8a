"""Reproducers of each kind of subject run alone: they end in 1 on the faulty subject and in 0 on its twin."""

import ast
import contextlib
import importlib.util
import io
import subprocess
import sys

import pytest
import torch

from gradharness import Fault, check, manual, pair
from gradharness.report.reproduction import counted
from gradharness.report.sources import reproduced
from gradharness.scripting.definitions import COPIED, COPY_ENDS
from gradharness.subjects import as_subject

MODULE = """
import torch


class Layer:
    factor = FACTOR

    def __init__(self):
        self.a = torch.ones(())

    def forward(self, x):
        self.x = x
        return self.a * x**2

    def backward(self, w):
        self.dx, self.da = self.factor * self.a * self.x * w, (w * self.x**2).sum()


class Lossy(Layer):
    def backward(self, x, y, target):
        Layer.backward(self, 2 * (y - target))


def squared_error(y, target):
    return ((y - target) ** 2).sum()


def left(obj):
    return {"x": obj.dx, "a": obj.da}


def square(x):
    return x * x


def square_vjp(x, w):
    return FACTOR * x * w


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, w):
        return FACTOR * ctx.saved_tensors[0] * w
"""

SUBJECTS = {
    "function": (lambda m: m.Square, {"x": "n"}),
    "manual": (lambda m: manual(m.Layer, gradients=m.left, state=("a",)), {"x": "n", "a": ""}),
    "manual with a lambda": (
        lambda m: manual(m.Layer, gradients=lambda obj: {"x": obj.dx, "a": obj.da}, state=("a",)),
        {"x": "n", "a": ""},
    ),
    "manual with a loss": (
        lambda m: manual(m.Lossy, gradients=m.left, state=("a",), loss=m.squared_error),
        {"x": "n", "target": "n", "a": ""},
    ),
    "pair": (lambda m: pair(m.square, m.square_vjp), {"x": "n"}),
}


ALONE = ("function", "manual with a loss")  # in a process of their own, which takes seconds


def module(folder, factor):
    path = folder / "layers.py"
    path.write_text(MODULE.replace("FACTOR", factor), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("layers", path)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules["layers"] = loaded
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_reproducer_ends_in_one_until_the_fault_is_gone(name, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    make, inputs = SUBJECTS[name]
    try:
        finding = check(make(module(tmp_path, "3")), inputs, checks=("vjp",), seed=1).findings[0]
    finally:
        sys.modules.pop("layers", None)
    assert "gradharness" not in finding.reproducer
    assert len(finding.reproducer.splitlines()) <= 30
    script = tmp_path / "reproduce.py"
    script.write_text(finding.reproducer, encoding="utf-8")
    for factor, status in (("3", 1), ("2", 0)):
        (tmp_path / "layers.py").write_text(MODULE.replace("FACTOR", factor), encoding="utf-8")
        if name in ALONE:
            done = subprocess.run([sys.executable, "-B", str(script)], capture_output=True, text=True, check=False)
            assert done.returncode == status, finding.reproducer + done.stdout + done.stderr
        else:
            monkeypatch.setattr(sys, "path", [*sys.path])
            assert run(finding.reproducer) == status, finding.reproducer
            sys.modules.pop("layers", None)


def run(source):
    """Exit status of a script, in this process."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(source, "repro.py", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        return end.code or 0
    except Exception:
        return 1
    raise AssertionError("a script ends by sys.exit")


def local(factor):
    class Local:
        def forward(self, x):
            self.x = x
            return x * x

        def backward(self, w):
            self.dx = factor * self.x * w

    return manual(Local, gradients=lambda o: {"x": o.dx})


def wrong_function(factor):
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, w):
            return factor * ctx.saved_tensors[0] * w

    return Square


def wrapped(factor):
    square = wrong_function(factor)
    return lambda x: square.apply(x) + 1


def detached(factor):
    """Right in its first derivative; the wrong one cannot be differentiated by x again."""

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, w):
            slope = 3 * ctx.saved_tensors[0] ** 2
            return (slope if factor == 2 else slope.detach()) * w

    return Cube


# One for each kind of subject, check and way to show it.
SAMPLE = {
    "local Function": (wrong_function, "vjp"),
    "lambda": (wrapped, "vjp"),
    "local class": (local, "vjp"),
    "local pair": (lambda f: pair(lambda x: x * x, lambda x, w: f * x * w), "vjp"),
    "packed pair": (
        lambda f: pair(lambda x: x * x, lambda primals, cotangents: (f * primals[0] * cotangents[0],)),
        "vjp",
    ),
    "clamped": (
        lambda f: pair(lambda x: x * x, lambda x, w: 2 * x * (w if f == 2 else w.clamp(-0.1, 0.1))),
        "linearity",
    ),
    "pair in a program": (
        lambda f: pair(lambda x: x * x, lambda x, w: 2 * x * w if f == 2 else (2 * x * w)[None]),
        "program",
    ),
    "detached": (detached, "double_backward"),
    "dtype": (
        lambda f: pair(lambda x: x * x, lambda x, w: (2 * x * w).to(torch.float64 if f == 2 else torch.float32)),
        "contract",
    ),
}


@pytest.mark.parametrize("name", SAMPLE)
def test_what_is_local_is_written_out(name):
    make, by = SAMPLE[name]
    report = check(make(3), {"x": "n"}, checks=(by,), seed=0)
    source = report.findings[0].reproducer
    twin = reproduced(report, as_subject(make(2)))[id(report.findings[0])].reproducer
    for text, status in ((source, 1), (twin, 0)):
        assert counted(text.splitlines()) <= 30, text
        assert imported(text) <= {"sys", "math", "torch", "itertools", "copy"}, text
        assert run(text) == status, text


def imported(source):
    """Top-level modules that a script imports, but for those of the subject's folder."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.partition(".")[0])
    return found


def test_a_subject_without_source_leaves_a_place_to_fill_in():
    count = []

    def stateful(x):
        nonlocal count
        count = [1]
        return wrong_function(3).apply(x)

    source = check(stateful, {"x": "n"}, checks=("vjp",), seed=1).findings[0].reproducer
    assert "FILL IN" in source
    assert run(source) == 2


def test_what_is_copied_is_marked_and_not_counted():
    source = check(wrong_function(3), {"x": "n"}, checks=("vjp",), seed=1).findings[0].reproducer
    lines = source.splitlines()
    begin, end = lines.index(COPIED), lines.index(COPY_ENDS)
    assert "class Square(torch.autograd.Function):" in lines[begin:end]
    assert counted(lines) == len(lines) - (end - begin + 1)
    assert counted(["a", "b"]) == 2


def test_a_module_that_came_built_asks_for_its_constructor():
    source = check(Doubled(2), {"x": "n 2"}, checks=("vjp",), seed=1).findings[0].reproducer
    assert run(source) == 2
    (line,) = [line for line in source.splitlines() if line.startswith("# FILL IN")]
    assert "build_module = lambda: Doubled(…)" in line
    for kind, status in (("Doubled", 1), ("Single", 0)):
        filled = [
            f"build_module = lambda: {kind}(2)" if line.startswith("sys.exit(print(") else line
            for line in source.replace("import Doubled", "import Doubled, Single").splitlines()
        ]
        assert run("\n".join(filled)) == status


class Single(torch.nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(size, dtype=torch.float64))

    def forward(self, x):
        return x * self.weight


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, w):
        return 2 * w


class Doubled(Single):
    def forward(self, x):
        return Twice.apply(super().forward(x))


def noisy(factor):
    class Noisy(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, w):
            share = 0.5 if factor == 3 and torch.rand(()) < 0.5 else 1.0
            return 2 * share * ctx.saved_tensors[0] * w

    return Noisy


def test_a_gradient_that_is_right_by_chance_is_looked_at_again():
    report = check(noisy(3), {"x": "n"}, checks=("vjp", "determinism"), seed=1)
    assert {f.fault for f in report.findings} >= {Fault.NOT_DETERMINISTIC}
    plain = [f for f in report.findings if f.check == "vjp"]
    twins = reproduced(report, as_subject(noisy(2)))
    assert plain
    for finding in plain:
        assert "for _ in range(20):" in finding.reproducer
        assert run(finding.reproducer) == 1
        assert run(twins[id(finding)].reproducer) == 0


def test_a_suspect_reference_has_no_script_and_says_why():
    report = check(torch.sin, {"x": "n"}, reference=DoubledSlope.apply, checks=("vjp",), seed=1)
    found = [f for f in report.findings if f.fault is Fault.REFERENCE_SUSPECT]
    assert found
    assert found[0].reproducer == ""
    assert "no stand-alone script" in found[0].evidence[-1]


class DoubledSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, w):
        return 2 * w * ctx.saved_tensors[0].cos()
