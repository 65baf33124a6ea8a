"""Programs from seeds, and the strategy for users' own properties."""

import pytest
import torch
from hypothesis import find, given, settings

from gradharness.inputs.programs import DEFAULT, Knobs, draw_program, leaf_values, programs, traced
from gradharness.programs.catalogue import catalogue, replaced
from gradharness.programs.program import Program


def test_one_seed_gives_one_program_and_another_seed_another():
    assert draw_program(3) == draw_program(3)
    assert len({repr(draw_program(seed)) for seed in range(50)}) == 50


def test_knobs_bound_the_program():
    knobs = Knobs(least=3, most=7, leaves=2, size=3, complex=0)
    drawn = [draw_program(seed, knobs) for seed in range(100)]
    assert {len(p.nodes) for p in drawn} == {3, 4, 5, 6, 7}
    assert {len(p.leaves) for p in drawn} == {1, 2}
    assert max(max(leaf.shape, default=1) for p in drawn for leaf in p.leaves) == 3
    assert not any(leaf.complex for p in drawn for leaf in p.leaves)


def test_leaves_are_of_all_kinds_and_one_requires_grad():
    drawn = [draw_program(seed) for seed in range(200)]
    leaves = [leaf for p in drawn for leaf in p.leaves]
    assert {len(leaf.shape) for leaf in leaves} == {0, 1, 2, 3, 4}
    assert {leaf.active for leaf in leaves} == {True, False}
    assert any(leaf.complex for leaf in leaves)
    assert all(any(leaf.active for leaf in p.leaves) for p in drawn)


def test_ops_are_drawn_evenly():
    ops = catalogue().ops
    drawn = [node.op for seed in range(40 * len(ops)) for node in draw_program(seed, Knobs(least=5, most=5)).nodes]
    counts = {op.name: drawn.count(op.name) for op in ops}
    assert min(counts.values()) > 0.6 * 200
    assert max(counts.values()) < 1.5 * 200


def test_a_rule_under_test_is_in_every_program_and_often():
    name = catalogue().ops[0].name
    ops = replaced(name, catalogue().ops[0].vjp)
    drawn = [[node.op for node in draw_program(seed, DEFAULT, ops).nodes] for seed in range(60)]
    assert all(name in nodes for nodes in drawn)
    assert sum(nodes.count(name) for nodes in drawn) > sum(map(len, drawn)) / 5


def test_values_follow_the_seed_and_the_dtype():
    program = draw_program(1, Knobs(complex=1))
    for dtype in (torch.float64, torch.float32):
        made = leaf_values(program, dtype)
        assert all(x.shape == leaf.shape for x, leaf in zip(made, program.leaves, strict=True))
        assert all(x.real.dtype == dtype and float(x.abs().max()) <= 4 for x in made)
    assert all(torch.equal(x, y) for x, y in zip(leaf_values(program), leaf_values(program), strict=True))


def test_cotangents_fit_the_outputs_and_some_are_expanded():
    strides = set()
    for seed in range(40):
        trace, cotangents = traced(draw_program(seed))
        for w, number in zip(cotangents, trace.outputs, strict=True):
            assert w.shape == trace.values[number].shape
            assert w.dtype == trace.values[number].dtype
            strides.update(w.stride())
    assert 0 in strides


@settings(max_examples=20, deadline=None)
@given(programs(Knobs(least=2, most=6)))
def test_the_strategy_gives_programs_that_resolve(program):
    assert isinstance(program, Program)
    assert 2 <= len(program.nodes) <= 6
    assert traced(program)[0].ops


def test_the_strategy_shrinks_to_few_nodes():
    smallest = find(programs(), lambda p: True, settings=settings(max_examples=50, database=None))
    assert len(smallest.nodes) == 1


@pytest.mark.parametrize("seed", range(5))
def test_a_shorter_program_is_the_start_of_a_longer_one(seed):
    whole = draw_program(seed, Knobs(least=9, most=9))
    assert whole.nodes[:4] == draw_program(seed, Knobs(least=9, most=9)).nodes[:4]
