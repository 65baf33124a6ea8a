"""Shrinking keeps the finding and takes away all else."""

import pytest

from gradharness.programs.program import Leaf, Node, Program
from gradharness.programs.shrinking import shrink

NAMES = "abcdefghijklmnopqrstuvwxy"
BIG = Program(
    (Leaf((3, 4), complex=True), Leaf((2, 3, 4), active=False), Leaf((5,))),
    tuple(Node(name, (i % 5, 7), i) for i, name in enumerate(NAMES)),
    seed=9,
)


def having(*names):
    def attempt(program):
        kept = [node.op for node in program.nodes]
        return program if all(name in kept for name in names) else None

    return attempt


@pytest.mark.parametrize("names", ["a", "y", "m", "ay", "lm", "bkx"])
def test_only_the_needed_nodes_are_left(names):
    smallest = shrink(BIG, having(*names))
    assert "".join(node.op for node in smallest.nodes) == names


def test_numbers_and_leaves_are_as_small_as_can_be():
    smallest = shrink(BIG, having("m"))
    assert smallest == Program((Leaf(()),), (Node("m", (0, 0), 0),), 9)


def test_what_is_needed_of_numbers_and_leaves_stays():
    def attempt(program):
        fits = any(node.choice >= 3 and node.op == "h" for node in program.nodes)
        return program if fits and any(len(x.shape) >= 2 and x.shape[-1] >= 2 for x in program.leaves) else None

    smallest = shrink(BIG, attempt)
    assert smallest.nodes == (Node("h", (0, 0), 3),)
    assert [leaf.shape for leaf in smallest.leaves] == [(1, 2)]


def test_the_number_of_tries_is_bounded_and_the_finding_kept():
    calls = []

    def attempt(program):
        calls.append(program)
        return having("c", "q")(program)

    smallest = shrink(BIG, attempt, tries=12)
    assert len(calls) <= 12
    assert having("c", "q")(smallest)


def test_what_cannot_shrink_comes_back():
    assert shrink(BIG, lambda program: None) == BIG
