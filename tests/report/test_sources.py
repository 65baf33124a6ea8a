"""Reproducers of each kind of subject run alone: they end in 1 on the faulty subject and in 0 on its twin."""

import importlib.util
import subprocess
import sys

import pytest

import gradharness
from gradharness import check, manual, pair
from gradharness.report.sources import _lambda_source

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


def module(folder, factor):
    path = folder / "layers.py"
    path.write_text(MODULE.replace("FACTOR", factor), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("layers", path)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules["layers"] = loaded
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_reproducer_ends_in_one_until_the_fault_is_gone(name, tmp_path):
    make, inputs = SUBJECTS[name]
    try:
        finding = check(make(module(tmp_path, "3")), inputs, checks=("vjp",), seed=1).findings[0]
    finally:
        sys.modules.pop("layers", None)
    assert "gradharness" not in finding.reproducer
    assert len(finding.reproducer.splitlines()) <= 40
    script = tmp_path / "reproduce.py"
    script.write_text(finding.reproducer, encoding="utf-8")
    for factor, status in (("3", 1), ("2", 0)):
        (tmp_path / "layers.py").write_text(MODULE.replace("FACTOR", factor), encoding="utf-8")
        done = subprocess.run([sys.executable, "-B", str(script)], capture_output=True, text=True, check=False)
        assert done.returncode == status, finding.reproducer + done.stdout + done.stderr


def test_a_local_manual_class_leaves_a_place_to_fill_in():
    class Local:
        def forward(self, x):
            self.x = x
            return x * x

        def backward(self, w):
            self.dx = 3 * self.x * w

    finding = check(manual(Local, gradients=lambda o: {"x": o.dx}), {"x": "n"}, checks=("vjp",), seed=1).findings[0]
    assert "FILL IN" in finding.reproducer


def test_the_source_of_a_lambda_is_found_only_where_it_is_complete():
    free = 3
    assert _lambda_source(lambda obj: {"x": obj.dx}) == 'lambda obj: {"x": obj.dx}'
    assert _lambda_source(lambda obj: free) is None
    assert _lambda_source(len) is None
    assert gradharness.__version__
