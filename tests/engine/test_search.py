"""The search: the same seed gives the same witness, and shrinking leads to the same fault, never to its edge."""

import torch

from gradharness.engine.plan import Item
from gradharness.engine.search import Tally
from gradharness.engine.witness import finding, warning, worst
from gradharness.model.verdict import Discrepancy, Fault, Severity, Verdict
from tests.engine.searching import F64, look, looker, search
from tests.faults.planting import function, two_functions

ITEM = Item("vjp", "cpu", "float64")


def sine(factor=lambda x: 1.0, made=function):
    """sin, with its gradient wrong by a factor that may depend on x."""
    return made(lambda x: x.sin(), lambda x, g: factor(x) * g * x.cos())


def test_a_right_backward_passes_all_cases():
    counted = []
    found = search(looker(sine()), progress=counted.append)
    assert found.run() is None
    assert found.tally.passed == found.tally.examined - found.tally.vacuous > 20
    assert 0 < found.tally.resolution < 1e-4
    assert counted[-1] == found.tally.examined


def test_the_same_seed_gives_the_same_witness():
    wrong = sine(lambda x: torch.where(x > 0.5, 2.0, 1.0))
    first, second = (search(looker(wrong), seed=7).run() for _ in range(2))
    assert first.look.recipe == second.look.recipe
    assert first.explanation.message == second.explanation.message
    other = search(looker(wrong), seed=8).run()
    assert other.explanation.fault is first.explanation.fault is Fault.WRONG_REGION


def test_a_witness_is_shrunk_to_one_element():
    failure = search(looker(sine(lambda x: 2.0))).run()
    assert failure.look.primals.leaves[0].numel() == 1
    assert failure.explanation.fault is Fault.CONSTANT_FACTOR


def test_a_witness_is_as_wrong_as_the_first_case_and_not_just_above_the_tolerance():
    grows = sine(lambda x: 1 + x.abs())
    failure = search(looker(grows)).run()
    assert failure.found.excess > 10


def test_shrinking_keeps_to_the_fault_that_was_found_first():
    # For one row it is another fault: the sign. The smallest case must not slide over to it.
    both = sine(lambda x: -1.0 if len(x) == 1 else 3.0)
    failure = search(looker(both)).run()
    assert failure.explanation.message == "gradient of x is 3 times the right one"
    assert failure.look.primals.leaves[0].shape == (2, 1)


def test_the_budget_of_shrinks_is_kept():
    at = looker(sine(lambda x: 2.0))
    calls = []
    original = type(at).look
    unshrunk = search(at, shrinks=0)
    try:
        type(at).look = lambda self, recipe: calls.append(recipe) or original(self, recipe)
        failure = unshrunk.run()
    finally:
        type(at).look = original
    assert failure.look.primals.leaves[0].numel() > 1
    assert len(calls) < 20


def test_after_the_time_limit_nothing_new_is_drawn():
    found = search(looker(sine()), deadline=-1.0)
    assert found.run() is None
    assert found.tally.out_of_time
    assert found.tally.examined == 0


def test_without_time_for_shrinking_the_first_failure_stands():
    failure = search(looker(sine(lambda x: 2.0)), seconds=-1.0).run()
    assert failure.look.primals.leaves[0].numel() > 1


def picky(x):
    if x.shape[0] == 2:
        raise ValueError("no pairs, please")
    return x.sin()


def test_rejected_cases_are_counted_with_their_reason():
    found = search(looker(picky), examples=30)
    assert found.run() is None
    assert found.tally.discarded > 0
    assert found.tally.main_reason == "the forward rejects it: no pairs, please"


def test_the_example_comes_first_and_may_be_the_witness():
    x = torch.randn(3, 4, dtype=F64)

    def near(y):
        return 2.0 if y.shape == x.shape and (y - x).abs().max() < 0.1 else 1.0

    only_here = sine(near)
    failure = search(looker(only_here, examples=(x,))).run()
    assert failure.look.recipe.example
    assert failure.explanation.fault is not Fault.CONSTANT_FACTOR


def opaque(made, factor):
    """Forward in numpy: only finite differences can tell."""

    def forward(x, y):
        if x.shape != y.shape:
            raise ValueError("shapes differ")
        return torch.from_numpy(x.detach().numpy() * y.detach().numpy() ** 2).sum(1)

    return made(forward, lambda x, y, g: (g[:, None] * y**2, factor * 2 * g[:, None] * x * y))


def test_where_only_a_direction_is_known_smaller_cases_tell_the_argument():
    at = looker(opaque(two_functions, 3.0), examples=(torch.randn(20, 30, dtype=F64), torch.randn(20, 30, dtype=F64)))
    failure = search(at).run()
    assert failure.explanation.message == "gradient of y is 3 times the right one"


def test_the_warnings_of_passing_cases_are_kept_once():
    wide = two_functions(lambda x: x.sin(), lambda x, g: (g * x.cos()).to(torch.complex128).real.double())
    assert search(looker(wide, "contract")).run() is None

    class Unasked(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            return x + y

        @staticmethod
        def backward(ctx, g):
            return g, g

    at = looker(lambda x: Unasked.apply(x, torch.ones(1, dtype=F64)), "contract", x="n d")
    found = search(at)
    assert found.run() is None
    (entry,) = found.tally.warnings.values()
    shown = warning(ITEM, *entry)
    assert shown.severity is Severity.WARNING
    assert shown.fault is Fault.UNEXPECTED_GRADIENT


def test_a_tally_counts_every_kind_of_look():
    tally = Tally()
    assert tally.main_reason == ""
    tally.add(look(looker(lambda x: x.sin() * 0)))
    assert tally.vacuous == 1
    tally.add(look(looker(lambda x: x.floor() + x.round() + 0 * x)))
    assert tally.examined == 2


def test_a_failure_becomes_a_finding_with_its_worst_element():
    at = looker(sine(lambda x: torch.where(x > 0.5, 2.0, 1.0)))
    failure = search(at).run()
    shown = finding(ITEM, failure)
    assert shown.severity is Severity.ERROR
    assert shown.fault is Fault.WRONG_REGION
    assert len(shown.witness.index) == 2
    assert abs(shown.witness.got - 2 * shown.witness.expected) < 1e-12
    assert any("autograd of the subject's own forward" in line for line in shown.evidence)


def test_the_worst_element_is_where_the_tolerance_is_exceeded_most():
    expected = torch.tensor([1.0, float("nan"), 100.0], dtype=F64)
    got = torch.tensor([1.1, 5.0, 101.0], dtype=F64)
    bound = torch.tensor([1e-3, 1e-3, 1.0], dtype=F64)
    assert worst(Discrepancy(label="x", got=got, expected=expected, bound=bound)) == ((0,), 1.0, 1.1, 1e-3)
    scalar = Discrepancy(label="x", got=None, expected=torch.tensor(2.0, dtype=F64), bound=0.5)
    assert worst(scalar) == ((), 2.0, 0.0, 0.5)
    assert worst(Discrepancy(label="x", got=got, expected=None)) == (None,) * 4
    assert worst(Discrepancy(label="x", got=got[:2], expected=expected)) == (None,) * 4


def test_a_failure_without_a_case_keeps_its_own_words():
    failure = search(looker(lambda x: x.detach())).run()
    assert failure.explanation.fault is Fault.DISCONNECTED
    shown = finding(ITEM, failure)
    assert shown.witness.cotangents == ()
    assert Verdict.FAIL is failure.look.observation.verdict
