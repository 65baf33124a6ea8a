"""A user's own VJP: the wrong one is found and named, the right twin is silent, misuse is told in a line."""

import pytest
import torch

from gradharness import VjpRule, vjp_of
from gradharness.errors import UnknownNameError, UsageError
from gradharness.programs.agreement import Wrong


def cubed(x):
    return x**3


@vjp_of("softmax")
def wrong_softmax(call, g):
    return call.y * (g - (g * call.y).sum())


@vjp_of("softmax")
def right_softmax(call, g):
    return call.y * (g - (g * call.y).sum(call.parameters["dim"], keepdim=True))


@vjp_of(cubed)
def wrong_cube(call, g):
    return 2 * call.x**2 * g


@vjp_of(cubed)
def right_cube(call, g):
    return 3 * call.x**2 * g


@vjp_of(lambda x, y: x / y, domains=("real", "nonzero"))
def no_unbroadcast(call, g):
    x, y = call.inputs
    return g / y, -g * x / y**2


@vjp_of(lambda x, y: x / y, domains=("real", "nonzero"))
def right_quotient(call, g):
    x, y = call.inputs
    return (g / y).sum_to_size(x.shape), (-g * x / y**2).sum_to_size(y.shape)


@vjp_of(lambda x: (x.sin(), x.cos()), outputs=2)
def second_dropped(call, g, _h):
    return g * call.outputs[1]


@vjp_of(lambda x: [x.sin(), x.cos()], outputs=2)
def both_used(call, g, h):
    return g * call.outputs[1] - h * call.outputs[0]


@pytest.mark.parametrize("rule", [right_softmax, right_cube, right_quotient, both_used], ids=lambda r: r.name)
def test_a_right_rule_is_silent(rule):
    assert rule.search(count=200) is None


@pytest.mark.parametrize(
    ("rule", "op", "wrong"),
    [
        (wrong_softmax, "softmax", Wrong.GRADIENT),
        (wrong_cube, "wrong_cube", Wrong.GRADIENT),
        (no_unbroadcast, "no_unbroadcast", Wrong.FORM),
        (second_dropped, "second_dropped", Wrong.GRADIENT),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_wrong_rule_is_found_and_named(rule, op, wrong):
    found = rule.search()
    assert (found.guilty.op, found.guilty.wrong) == (op, wrong)
    assert len(found.program.nodes) == 1


def test_the_text_is_a_report_whose_source_runs_and_whose_literal_replays():
    found = wrong_cube.search()
    assert str(found).startswith("the VJP of wrong_cube gives a wrong gradient of operand 0, in a program of 1 op\n")
    assert "def cubed(x):\n    return x**3\n" in found.source
    space: dict[str, object] = {}
    exec(found.source, space)
    assert torch.allclose(space["gradients"][0], found.disagreement.expected)
    literal = next(line for line in str(found).splitlines() if line.startswith("replay: ")).removeprefix("replay: ")
    again = wrong_cube.replay(eval(literal))
    assert again.program == found.program
    assert right_softmax.replay(wrong_softmax.search().program.literal()) is None


def test_a_rule_can_be_called():
    assert isinstance(right_cube, VjpRule)
    assert right_cube.op.run([torch.ones(2)], {})[0].tolist() == [1, 1]


def test_a_rule_for_real_operands_is_not_tried_on_complex_ones():
    def real_only(call, g):
        return g * call.x.cos()

    assert vjp_of("sin")(real_only).search() is None
    found = vjp_of("sin", complex=True)(real_only).search()
    assert any(leaf.complex for leaf in found.program.leaves)


def test_a_torch_function_is_a_forward():
    found = vjp_of(torch.erf, arity=1)(lambda call, g: g).search()
    assert "v0 = torch.erf(x0)" in found.source


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda x: x.nope(), "none of 400 programs could use rule: its forward raised AttributeError: .*nope"),
        (lambda x: x.detach() * 2, "the forward of rule leaves autograd"),
        (lambda x: x.sum().item(), r"the forward of rule returns \(float\): it has to return one floating tensor"),
        (lambda x: x > 0, r"the forward of rule returns \(torch.bool\)"),
        (lambda x: (x, x), "it has to return one floating tensor"),
        (lambda x: x.mul_(2), "the forward of rule writes into its operand: let it work on a clone"),
    ],
)
def test_what_no_forward_may_do_is_told(forward, message):
    def rule(call, g):
        return g

    with pytest.raises(UsageError, match=message):
        vjp_of(forward)(rule).search()


def test_a_forward_that_refuses_some_operands_is_used_with_others():
    def matrices_only(x):
        assert x.dim() == 2
        return 2 * x

    assert vjp_of(matrices_only)(lambda call, g: 2 * g).search(count=100) is None
    found = vjp_of(matrices_only)(lambda call, g: g).search()
    assert len(found.program.leaves[0].shape) == 2


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("sinn",), {}, "unknown op 'sinn': did you mean 'sin"),
        (("sin",), {"arity": 2}, "are settled for a catalogue op"),
        (("floor_divide_is_none",), {}, "unknown op"),
        (("erf",), {"complex": True}, "this op takes no complex operands"),
        ((3,), {}, "give the name of a catalogue op, or a forward"),
        ((cubed,), {"domains": ("positiv",)}, "unknown domain 'positiv': did you mean 'positive'"),
        ((cubed,), {"domains": ("real", "real")}, "at least one, and a domain each"),
        ((cubed,), {"arity": 0}, "arity=0"),
        ((lambda *xs: xs[0],), {}, "its number of operands is not to be seen; give arity="),
    ],
)
def test_misuse_is_told_at_the_decorator(arguments, options, message):
    with pytest.raises((UsageError, UnknownNameError), match=message):
        vjp_of(*arguments, **options)


def test_what_is_decorated_has_to_be_a_function():
    with pytest.raises(UsageError, match="decorates a function"):
        vjp_of("sin")(3)
