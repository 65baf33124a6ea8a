"""What stands in a script for each kind of failure: it ends in 1 on a wrong subject, and in 0 on its twin."""

import contextlib
import io
import re

import pytest
import torch

from gradharness.report.failure import Failure
from gradharness.report.reproduction import identifier, script
from gradharness.report.traced_source import TracedSource, traced_source

F64 = torch.float64
X = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=F64)
W = torch.tensor([0.5, -1.0], dtype=F64)


class Scale(torch.autograd.Function):
    """x w, right."""

    factor = 1.0

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x * w

    @classmethod
    def backward(cls, ctx, g):
        x, w = ctx.saved_tensors
        return g * w, Scale.factor * (g * x).sum(0)


class Wrong(Scale):
    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g * w, 2 * (g * x).sum(0)


class Raising(Scale):
    @staticmethod
    def backward(ctx, g):
        raise ValueError("no")


def nested(x, ys):
    return {"a": Scale.apply(x, ys[0]), "b": [x.sum()]}


def nested_wrong(x, ys):
    return {"a": Wrong.apply(x, ys[0]), "b": [x.sum() + 1]}


def run(source):
    """(exit status, what is printed) of a script, in this process."""
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            exec(compile(source, "repro.py", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        return end.code or 0, out.getvalue()
    except Exception as error:
        return f"{type(error).__name__}: {error}", out.getvalue()
    raise AssertionError("a script ends by sys.exit")


def failure(**rest):
    given = {
        "title": "gradient of w is twice the right one",
        "arguments": (("x", X), ("w", W)),
        "active": ("x", "w"),
        "outputs": ("output",),
        "cotangents": [torch.ones(2, 2, dtype=F64)],
        "label": "w",
        "expected": X.sum(0),
        "bound": 1e-9,
    }
    return Failure(**{**given, **rest})


NESTED = {
    "arguments": (("x", X), ("ys", (W,))),
    "active": ("x", "ys[0]"),
    "outputs": ("output['a']", "output['b'][0]"),
    "cotangents": [torch.ones(2, 2, dtype=F64), torch.tensor(1.0, dtype=F64)],
    "label": "ys[0]",
}


@pytest.mark.parametrize(
    ("wrong", "right", "what"),
    [
        (Wrong, Scale, {}),
        (Wrong, Scale, {"expected": None}),
        (nested_wrong, nested, NESTED),
        (nested_wrong, nested, {**NESTED, "expected": None}),
        (
            nested_wrong,
            nested,
            {**NESTED, "label": "output['b'][0]", "expected": torch.tensor(10.0, dtype=F64), "bound": 0.0},
        ),
        (Wrong, Scale, {"steps": ("sys.exit(int((start(arguments, leaves)(cotangents)[1][0] != 4).item()))",)}),
    ],
    ids=["gradient", "differences", "nested", "nested differences", "output", "steps"],
)
def test_it_exits_1_while_the_fault_is_there(wrong, right, what):
    for subject, status in ((wrong, 1), (right, 0)):
        source = script(traced_source(getattr(subject, "apply", subject)), failure(**what))
        assert len(source.splitlines()) <= 30
        assert run(source)[0] == status, source


def test_it_reads_well():
    source = script(traced_source(Wrong.apply), failure())
    assert (
        re.sub(r"insert\(0, .*\)", "insert(0, …)", source)
        == '''\
"""gradient of w is twice the right one (exits 1 while it is so, 0 once it is mended)"""

import sys
import torch

sys.path.insert(0, …)
from tests.report.test_reproduction import Wrong

x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
w = torch.tensor([0.5, -1.0], dtype=torch.float64)
leaves = [x.requires_grad_(), w.requires_grad_()]
cotangent = torch.tensor([[1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)

output = Wrong.apply(x, w)
got = torch.autograd.grad(output, leaves, cotangent, materialize_grads=True)[1]

expected = torch.tensor([4.0, 6.0], dtype=torch.float64)
allowed = 1e-09
print('expected', expected, '\\ngot     ', got)
near = (got - expected).abs() <= allowed
sys.exit(0 if got.shape == expected.shape and near.all() else 1)
'''
    )


def test_it_prints_expected_and_got():
    assert run(script(traced_source(Wrong.apply), failure()))[1] == (
        "expected tensor([4., 6.], dtype=torch.float64) \ngot      tensor([ 8., 12.], dtype=torch.float64)\n"
    )


def test_a_backward_that_raises():
    raising = failure(label="backward", expected=None)
    assert run(script(traced_source(Raising.apply), raising))[0] == "ValueError: no"
    assert run(script(traced_source(Scale.apply), raising))[0] == 0


def test_an_output_without_a_graph():
    apart = failure(label="output", expected=None, cotangents=[], outputs=())
    assert run(script(TracedSource(called="torch.ones_like"), failure(**vars_of(apart, (("x", X),)))))[0] == 1
    assert run(script(TracedSource(called="torch.neg"), failure(**vars_of(apart, (("x", X),)))))[0] == 0


def vars_of(given, arguments):
    names = ("label", "expected", "cotangents", "outputs")
    return {"arguments": arguments, "active": ("x",), **{name: getattr(given, name) for name in names}}


def test_what_is_not_finite_is_compared_as_it_is():
    inf = torch.tensor([torch.inf, torch.nan], dtype=F64)
    what = {"arguments": (("x", inf),), "active": ("x",), "label": "output", "outputs": ("output",)}
    assert run(script(TracedSource(called="torch.clone"), failure(**what, expected=inf)))[0] == 0
    assert run(script(TracedSource(called="torch.neg"), failure(**what, expected=inf)))[0] == 1


def test_the_difference_of_a_complex_argument_has_both_parts():
    z = torch.tensor([1 + 2j, -0.5j], dtype=torch.complex128)
    what = {"arguments": (("z", z),), "active": ("z",), "label": "z", "cotangents": [torch.ones(2, dtype=z.dtype)]}
    for called, status in (("torch.square", 0), ("(lambda z: z.detach() * z)", 1)):
        assert run(script(TracedSource(called=called), failure(**what, expected=None)))[0] == status


def test_what_cannot_be_imported_is_to_be_filled_in():
    source = script(TracedSource(called="subject", missing="`subject`"), failure())
    status, printed = run(source)
    assert (status, printed) == (2, "FILL IN: `subject`\n")
    filled = "\n".join("subject = Scale.apply" if "sys.exit(print(" in line else line for line in source.splitlines())
    assert run("from tests.report.test_reproduction import Scale\n" + filled)[0] == 0


def test_names_that_are_taken_or_no_names_are_changed():
    assert identifier("0.weight") == "_0_weight"
    assert identifier("expected", ("expected",)) == "expected_"
    source = script(traced_source(Wrong.apply), failure(arguments=(("got", X), ("w", W)), active=("got", "w")))
    assert "Wrong.apply(got_, w)" in source
    assert run(source)[0] == 1


def test_a_title_stays_on_one_line():
    first = script(traced_source(Wrong.apply), failure(title='a "quoted" \\ title\n' + "long " * 50)).splitlines()[0]
    assert len(first) <= 120
    assert first.startswith('"""a \'quoted\' / title long')
