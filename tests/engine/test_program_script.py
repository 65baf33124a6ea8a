"""The stand-alone script of a wrong VJP: it ends in 1 on the wrong one, in 0 on its twin, and needs no report."""

import contextlib
import io

import pytest
import torch

from gradharness import vjp_of
from gradharness.engine.program_search import search
from gradharness.programs.catalogue import replaced


def cubed(x):
    return x**3


@vjp_of(cubed)
def wrong_cube(call, g):
    return 2 * call.x**2 * g


@vjp_of(cubed)
def right_cube(call, g):
    return 3 * call.x**2 * g


@vjp_of("softmax")
def wrong_softmax(call, g):
    return call.y * (g - (g * call.y).sum())


@vjp_of("softmax")
def right_softmax(call, g):
    return call.y * (g - (g * call.y).sum(call.parameters["dim"], keepdim=True))


@vjp_of(lambda x, y: x / y, domains=("real", "nonzero"))
def wrong_quotient(call, g):
    x, y = call.inputs
    return g / y, -g * x / y**2


@vjp_of(lambda x, y: x / y, domains=("real", "nonzero"))
def right_quotient(call, g):
    x, y = call.inputs
    return (g / y).sum_to_size(x.shape), (-g * x / y**2).sum_to_size(y.shape)


@vjp_of("sin")
def wrong_writer(call, g):
    return g.mul_(call.x.cos())


@vjp_of("sin")
def right_writer(call, g):
    return g.clone().mul_(call.x.cos())


@vjp_of(lambda x: (x.sin(), x.cos()), outputs=2)
def wrong_pair(call, g, _h):
    return g * call.outputs[1]


@vjp_of(lambda x: (x.sin(), x.cos()), outputs=2)
def right_pair(call, g, h):
    return g * call.outputs[1] - h * call.outputs[0]


@vjp_of("sin")
def wrong_raising(call, g):
    raise ValueError("no")


@vjp_of("sin")
def right_raising(call, g):
    return g * call.x.cos()


def status(source):
    """Exit status of a script, in this process; 1 for an exception, as Python has it."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(source, "script.py", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        return end.code
    except Exception:
        return 1
    raise AssertionError("a script ends by sys.exit")


@pytest.mark.parametrize(
    "rule", [wrong_cube, wrong_softmax, wrong_quotient, wrong_writer, wrong_pair, wrong_raising], ids=lambda r: r.name
)
def test_it_tells_the_wrong_rule_from_its_twin(rule):
    found = rule.search()
    script = found.reproducer
    assert f"import {rule.name}" in script
    assert "gradharness" not in script.replace("/gradharness", "")
    assert len(script.splitlines()) <= 33
    assert status(script) == 1, script
    twin = script.replace(rule.name, rule.name.replace("wrong", "right"))
    assert status(twin) == 0, twin
    assert script in str(found)


def test_an_op_of_the_catalogue_has_its_source_alone():
    ops = replaced("sin", lambda call, g: 3 * g * call.x.cos().conj())
    found = search(ops)
    assert status(found.reproducer) == 1
    trusted = type(ops)(ops.ops)  # the same ops, none of them under test
    found = search(trusted, count=4000)
    assert found.guilty.op == "sin"
    assert found.reproducer == ""
    space: dict[str, object] = {}
    exec(found.source, space)
    assert isinstance(space["gradients"][0], torch.Tensor)


def test_a_rule_that_nothing_can_import_has_no_script():
    calls = []

    def nowhere(call, g):
        nonlocal calls
        calls = [1]
        return g

    found = vjp_of("sin")(nowhere).search()
    assert found.reproducer == ""
    assert "as a script" not in str(found)
