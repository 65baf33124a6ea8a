"""A VJP under test inside random programs: found, shrunk, blamed, printed, replayed."""

import pytest
import torch

from gradharness.engine.program_search import look, search, worst_element
from gradharness.errors import UnknownNameError
from gradharness.inputs.programs import Knobs
from gradharness.programs.agreement import Wrong
from gradharness.programs.catalogue import catalogue, replaced
from gradharness.programs.op import Op
from gradharness.programs.program import Program


def test_a_right_rule_is_never_blamed():
    ops = replaced("tanh", lambda call, g: g * (1 - call.y * call.y).conj())
    assert search(ops, count=40) is None


def test_a_wrong_rule_is_found_alone_in_a_program_of_its_own():
    finding = search(replaced("sin", lambda call, g: -g * call.x.cos().conj()))
    assert finding.after <= 3
    assert [node.op for node in finding.program.nodes] == ["sin"]
    assert [leaf.shape for leaf in finding.program.leaves] == [()]
    assert finding.guilty.op == "sin"


def test_the_finding_says_what_where_and_how_to_replay():
    ops = replaced("sin", lambda call, g: 3 * g * call.x.cos().conj())
    finding = search(ops)
    text = str(finding)
    assert "the VJP of sin gives a wrong gradient of operand 0" in text
    assert worst_element(finding.disagreement) in text
    assert "autograd has" in text
    literal = next(line for line in text.splitlines() if line.startswith("replay: ")).removeprefix("replay: ")
    assert Program.from_literal(eval(literal)) == finding.program
    assert look(finding.program, ops) is not None
    space: dict[str, object] = {}
    exec(finding.source, space)
    (truth,) = space["gradients"]
    assert torch.allclose(truth, finding.disagreement.expected)
    assert torch.allclose(3 * truth, finding.disagreement.got)


def test_a_region_is_found_through_the_values():
    def wrong_above_two(call, g):
        return torch.where(call.x.real > 2, 0, g * call.x.cos().conj())

    finding = search(replaced("sin", wrong_above_two))
    assert finding.guilty.op == "sin"
    assert len(finding.program.nodes) <= 2


def test_two_runs_with_one_seed_find_the_same_and_seeds_differ():
    ops = replaced("sin", lambda call, g: g)
    first, again, other = search(ops, seed=1), search(ops, seed=1), search(ops, seed=2)
    assert (first.program, first.original) == (again.program, again.original)
    assert first.original != other.original


def test_a_new_op_of_the_users_is_under_test_as_well():
    cube = Op(name="cube", forward=lambda x: x**3, vjp=lambda c, g: g * 2 * c.x**2, code="{0} ** 3", formula="powers")
    finding = search(catalogue().added(cube), knobs=Knobs(least=1, most=5, complex=0))
    assert finding.guilty.op == "cube"
    assert "** 3" in finding.source


def test_a_rule_that_writes_is_found_even_where_nobody_reads_it_again():
    finding = search(replaced("tanh", lambda call, g: g.mul_((1 - call.y * call.y).conj())), knobs=Knobs(complex=0))
    assert finding.guilty.wrong is Wrong.WRITES
    assert worst_element(finding.disagreement) == ""
    assert str(finding).startswith("the VJP of tanh writes into its cotangent, in a program of 1 op")


def test_a_rule_that_writes_behind_autograds_back_is_found_in_context():
    def sly(call, g):
        right = g * (1 - call.y * call.y).conj()
        call.x.data.zero_() if call.x.is_contiguous() else None
        return right

    finding = search(replaced("tanh", sly), knobs=Knobs(complex=0))
    assert finding.guilty.op == "tanh"
    assert finding.guilty.wrong is Wrong.WRITES
    assert len(finding.program.nodes) <= 3


def test_an_unknown_op_is_named():
    with pytest.raises(UnknownNameError, match="unknown op 'tahn'"):
        replaced("tahn", lambda call, g: g)
