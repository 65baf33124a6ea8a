"""Each hypothesis accepts what it is for, and nothing else: a wrong name is worse than none."""

import math

import pytest
import torch

from gradharness.diagnosis import arrangement, cotangent, diagnose, presence, region, scale, shapes
from gradharness.model.verdict import Fault
from tests.diagnosis.making import F64, case, correct, evidence, measured, randn, sample, setting

SHAPES = ((3, 4), (5, 2), (2, 2))
TRUTHS = [randn(*s, seed=i) for i, s in enumerate(SHAPES)]


def seen(change, truths=TRUTHS, **rest):
    """Evidence of a fault that changes every gradient in the same way."""
    return evidence(*(sample(t, change(t)) for t in truths), **rest)


# --- presence -----------------------------------------------------------------------------------------------------


def test_a_fault_that_the_check_names_keeps_its_name():
    one = sample(TRUTHS[0], TRUTHS[0], fault=Fault.WRONG_DTYPE, detail="in float32")
    explanation = presence.named(evidence(one))
    assert (explanation.fault, explanation.message) == (Fault.WRONG_DTYPE, "in float32")
    assert explanation.holds(one)
    assert not explanation.holds(correct(TRUTHS[0]))
    assert explanation.retold(one) == "in float32"
    assert presence.named(seen(lambda t: 2 * t)) is None


def test_no_gradient_at_all_is_missing():
    explanation = presence.missing(evidence(sample(TRUTHS[0], None)))
    assert explanation.fault is Fault.MISSING_GRADIENT
    assert explanation.holds(sample(TRUTHS[1], None))
    assert presence.missing(seen(torch.zeros_like)) is None


@pytest.mark.parametrize(
    ("primal", "gradient", "fault"),
    [
        ((2, 3), (3, 2), Fault.TRANSPOSED),
        ((3,), (4, 3), Fault.MISSING_REDUCTION),
        ((1, 3), (4, 3), Fault.MISSING_REDUCTION),
        ((2, 3), (5,), Fault.WRONG_SHAPE),
        ((3,), (4, 2), Fault.WRONG_SHAPE),
    ],
)
def test_a_gradient_of_another_shape_is_told_from_its_shape(primal, gradient, fault):
    one = sample(torch.zeros(primal, dtype=F64), torch.ones(gradient, dtype=F64))
    explanation = presence.shape(evidence(one))
    assert explanation.fault is fault
    assert str(gradient) in explanation.message
    assert explanation.holds(one)
    assert explanation.retold(one) == explanation.message
    assert not explanation.holds(correct(TRUTHS[0]))


def test_a_gradient_of_the_right_shape_has_no_shape_fault():
    assert presence.shape(seen(lambda t: 2 * t)) is None
    assert presence.shape(evidence(sample(TRUTHS[0], None))) is None
    assert presence.shape(evidence(sample(TRUTHS[0], TRUTHS[1], label="output"))) is None


def test_a_gradient_that_is_not_finite_is_told_with_its_place():
    got = TRUTHS[0].clone()
    got[1, 2] = math.nan
    one = sample(TRUTHS[0], got, leaf=torch.full((3, 4), 30.0, dtype=F64))
    explanation = presence.not_finite(evidence(one))
    assert explanation.fault is Fault.NON_FINITE
    assert "nan in 1 of 12 elements, first at [1, 2], where x is 30" in explanation.message
    assert explanation.holds(one)
    assert presence.not_finite(seen(lambda t: 2 * t)) is None
    assert presence.not_finite(evidence(sample(got, got))) is None


def test_a_gradient_of_zeros_is_zero_unless_it_is_right_elsewhere():
    explanation = presence.zero(seen(torch.zeros_like))
    assert explanation.fault is Fault.ZERO_GRADIENT
    assert presence.zero(seen(lambda t: t * torch.tensor([0.0] + [1.0] * (t.shape[1] - 1)))) is None
    assert diagnose(seen(torch.zeros_like, right=[correct(randn(2, 2, seed=8))])).fault is not Fault.ZERO_GRADIENT
    assert diagnose(seen(torch.zeros_like, right=[correct(torch.zeros(2, 2))])).fault is Fault.ZERO_GRADIENT


# --- scale --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("c", "words"),
    [(1.5, "3/2"), (2.0, "is 2 times"), (1.0005, "1.0005"), (math.pi, "π"), (-math.pi, "-π"), (-0.5, "-1/2")],
)
def test_a_constant_factor_is_told_by_its_value(c, words):
    explanation = scale.factor(seen(lambda t: c * t))
    assert explanation.fault is Fault.CONSTANT_FACTOR
    assert words in explanation.message
    assert explanation.holds(sample(TRUTHS[2], c * TRUTHS[2]))
    assert not explanation.holds(sample(TRUTHS[2], 1.01 * c * TRUTHS[2]))


def test_minus_one_is_a_sign():
    explanation = scale.factor(seen(lambda t: -t))
    assert explanation.fault is Fault.SIGN
    assert explanation.holds(sample(TRUTHS[0], -TRUTHS[0]))


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (lambda n, d: 1 / n, "1/the batch size"),
        (lambda n, d: n, "the batch size"),
        (lambda n, d: 1 / math.sqrt(d), "1/sqrt of the size of x in dimension 1"),
        (lambda n, d: math.sqrt(d), "sqrt of the size of x in dimension 1"),
        (lambda n, d: n / (n - 1), "n/(n-1), n being the batch size"),
        (lambda n, d: (n - 1) / n, "(n-1)/n, n being the batch size"),
        (lambda n, d: n * d, "the number of elements of x"),
    ],
)
def test_a_factor_that_is_a_size_is_told_by_the_size(factor, words):
    explanation = scale.factor(seen(lambda t: factor(*t.shape) * t))
    assert explanation.fault is Fault.CONSTANT_FACTOR
    assert words in explanation.message
    other = randn(7, 3)
    assert explanation.holds(sample(other, factor(7, 3) * other))
    assert "here" in explanation.retold(sample(other, factor(7, 3) * other))


def test_a_formula_of_a_size_holds_nowhere_where_the_size_is_too_small_for_it():
    explanation = scale.factor(seen(lambda t: len(t) / (len(t) - 1) * t))
    one = randn(1, 3)
    assert not explanation.holds(sample(one, one))


@pytest.mark.parametrize(
    "change",
    [lambda t: t + 1, lambda t: t * t, lambda t: 0 * t, lambda t: t * math.nan, lambda t: t * (1 + t.numel() ** 0.3)],
    ids=["offset", "square", "zero", "nan", "another law of the size"],
)
def test_what_is_no_multiple_is_no_factor(change):
    assert scale.factor(seen(change)) is None


def test_one_element_tells_no_factor_and_neither_does_a_zero():
    one = torch.tensor([3.0], dtype=F64)
    assert scale.factor(evidence(sample(one, 2 * one))) is None
    assert scale.factor(seen(torch.ones_like, truths=[torch.zeros(2, 2, dtype=F64)])) is None


def test_a_factor_that_does_not_hold_everywhere_is_no_constant():
    right = [correct(randn(3, 4, seed=5))]
    assert diagnose(seen(lambda t: 2 * t, right=right)).fault is not Fault.CONSTANT_FACTOR


def test_a_complex_gradient_may_be_a_multiple_too():
    truth = randn(3, 4, dtype=torch.complex128)
    assert "is 2 times" in scale.factor(evidence(sample(truth, 2 * truth))).message
    assert scale.factor(evidence(sample(truth, 2j * truth))) is None


def turns(t):
    return t * (1 + 0.05 * (-1.0) ** torch.arange(t.numel()).reshape(t.shape))


SAME = [randn(3, 4, seed=i) for i in range(4)]


def test_factors_that_belong_to_places_are_told_with_them():
    explanation = scale.factor_of_place(seen(turns, truths=SAME))
    assert explanation.fault is Fault.WRONG_ELEMENTS
    assert "1.05 at [0, 0], 0.95 at [0, 1]" in explanation.message
    many = scale.factor_of_place(seen(lambda t: t * torch.arange(12.0).reshape(3, 4), truths=SAME))
    assert many.message.endswith("…")


@pytest.mark.parametrize(
    ("change", "truths"),
    [
        (turns, SAME[:2]),
        (lambda t: 2 * t, SAME),
        (lambda t: t * t, SAME),
        (lambda t: t * math.nan, SAME),
        (turns, [randn(3, 4, seed=i, dtype=torch.complex128) for i in range(3)]),
    ],
    ids=["too few", "constant", "values", "nan", "complex"],
)
def test_other_factors_belong_to_no_place(change, truths):
    assert scale.factor_of_place(seen(change, truths=truths)) is None


def test_a_sample_that_tells_nothing_refutes_a_factor_of_a_place():
    samples = [sample(t, turns(t)) for t in SAME] + [sample(SAME[0], SAME[0] * math.inf)]
    assert scale.factor_of_place(evidence(*samples)) is None


# --- arrangement --------------------------------------------------------------------------------------------------

SQUARES = [randn(n, n, seed=n) for n in (2, 3, 4)]


def test_a_transposed_gradient_is_recognised_by_values_and_by_shape():
    explanation = arrangement.transposed(seen(lambda t: t.mT, truths=SQUARES))
    assert explanation.fault is Fault.TRANSPOSED
    flat = sample(randn(2, 3), randn(3, 2), leaf=randn(2, 3))
    assert explanation.holds(flat)
    assert not explanation.holds(sample(randn(2, 3), randn(3, 5), leaf=randn(2, 3)))
    assert not explanation.holds(sample(randn(2, 3), randn(2, 3, seed=1)))
    assert not explanation.holds(sample(randn(3), randn(3, seed=1)))
    assert arrangement.transposed(seen(lambda t: 2 * t, truths=SQUARES)) is None


def product(x, y):
    return x @ y


POINTS = [(randn(3, n, seed=n), randn(n, n, seed=n + 9)) for n in (2, 3, 4)]


def test_a_transpose_that_is_missing_inside_is_told_by_its_argument():
    where = setting(product, lambda x, y, g: (g @ y, x.T @ g))
    found = measured(where, *POINTS)
    explanation = arrangement.transposed(found)
    assert explanation.message == "gradient of x uses y where y transposed is due"
    assert all(explanation.holds(s) for s in found.samples)
    assert not explanation.holds(measured(where, (randn(3, 1), randn(1, 1))).first)


def test_another_fault_of_a_product_is_no_missing_transpose():
    where = setting(product, lambda x, y, g: (g @ y * 2, x.T @ g))
    assert arrangement.transposed(measured(where, *POINTS)) is None
    blind = setting(product, where.subject.vjp, oracle=False)
    assert arrangement.transposed(evidence(*measured(where, *POINTS).samples, where=blind)) is None


def test_an_oracle_that_rejects_the_transposed_argument_proves_nothing():
    def picky(x, y):
        if y[0, 0] != y.reshape(-1)[0] or y[0, 1] < y[1, 0]:
            raise ValueError("upper elements have to be larger")
        return x @ y

    ordered = torch.tensor([[1.0, 3.0], [2.0, 4.0]], dtype=F64)
    where = setting(picky, lambda x, y, g: (g @ y, x.T @ g))
    assert arrangement.transposed(measured(where, (randn(3, 2), ordered))) is None


@pytest.mark.parametrize(
    ("move", "words"),
    [
        (lambda t: t.flip(1), "reversed along dimension 1"),
        (lambda t: t.roll(1, 0), "shifted by one place along dimension 0"),
        (lambda t: t.roll(-1, 1), "shifted by minus one place along dimension 1"),
    ],
)
def test_right_numbers_in_the_wrong_place_are_told_by_the_move(move, words):
    truths = [randn(4, 5, seed=1), randn(3, 3, seed=2)]
    explanation = arrangement.flipped_or_shifted(seen(move, truths=truths))
    assert words in explanation.message
    assert explanation.holds(correct(torch.ones(1, 1, dtype=F64)))
    assert not explanation.holds(correct(randn(2, 2)))


def test_other_numbers_were_not_moved():
    assert arrangement.flipped_or_shifted(seen(lambda t: 2 * t)) is None
    assert arrangement.flipped_or_shifted(evidence(sample(TRUTHS[0], TRUTHS[1]))) is None


def test_another_arguments_gradient_is_recognised():
    right = setting(lambda x, y: x * y.sin(), lambda x, y, g: (g * y.sin(), g * x * y.cos()))
    where = setting(lambda x, y: x * y.sin(), lambda x, y, g: (g * x * y.cos(), g * y.sin()))
    points = [(randn(2, 3, seed=i), randn(2, 3, seed=i + 5)) for i in range(2)]
    explanation = arrangement.swapped(measured(where, *points))
    assert explanation.message == "gradient of x is the gradient of y"
    assert explanation.holds(measured(where, *points).first)
    assert arrangement.swapped(measured(right, *points)) is None
    assert arrangement.swapped(measured(where, (randn(1), randn(1, seed=3)))) is None


def test_a_missing_conjugate_is_recognised():
    points = [(randn(2, 3, seed=i, dtype=torch.complex128),) for i in range(2)]
    wrong = setting(lambda x: x * x, lambda x, g: 2 * x * g)
    found = measured(wrong, *points)
    explanation = arrangement.conjugated(found)
    assert explanation.fault is Fault.MISSING_CONJUGATE
    assert all(explanation.holds(s) for s in found.samples)
    assert arrangement.conjugated(measured(setting(lambda x: x * x, lambda x, g: 3 * x.conj() * g), *points)) is None
    assert arrangement.conjugated(measured(setting(), (randn(2),))) is None


# --- cotangent ----------------------------------------------------------------------------------------------------


def exp(x):
    return x.exp()


ONE = [(randn(3, 4, seed=i),) for i in range(2)]


def test_an_ignored_cotangent_is_recognised():
    explanation = cotangent.ignored(measured(setting(exp, lambda x, g: x.exp()), *ONE))
    assert explanation.fault is Fault.COTANGENT_IGNORED


@pytest.mark.parametrize(
    "vjp",
    [
        lambda x, g: 2 * g * x.exp(),
        lambda x, g: 0 * g,
        lambda x, g: g / g.norm(),
        lambda x, g: x.exp() if g.norm() < 6 else torch.zeros(2)[3],
    ],
    ids=["used", "zero", "direction used", "raises"],
)
def test_a_cotangent_that_is_used_is_not_ignored(vjp):
    assert cotangent.ignored(measured(setting(exp, vjp), *ONE)) is None


@pytest.mark.parametrize(
    ("vjp", "words"),
    [
        (lambda x, g: g.abs() * x.exp(), "absolute value"),
        (lambda x, g: g.relu() * x.exp(), "for -1 times"),
        (lambda x, g: g * g.abs() * x.exp(), "grows with its square"),
        (lambda x, g: g.clamp(-20, 20) * x.exp(), "for 64 times"),
    ],
)
def test_a_gradient_that_is_not_linear_is_told_by_how(vjp, words):
    explanation = cotangent.not_linear(measured(setting(exp, vjp), *ONE))
    assert explanation.fault is Fault.NOT_LINEAR
    assert words in explanation.message


def test_a_linear_gradient_is_not_accused():
    assert cotangent.not_linear(measured(setting(exp, lambda x, g: 3 * g), *ONE)) is None
    misshapen = evidence(sample(TRUTHS[0], TRUTHS[1]))
    assert cotangent.not_linear(misshapen) is None
    assert cotangent.ignored(misshapen) is None


def two(x):
    return x.sin(), x.exp()


@pytest.mark.parametrize(
    ("vjp", "fault"),
    [
        (lambda x, g, h: g * x.cos(), Fault.OUTPUT_DROPPED),
        (lambda x, g, h: h * x.exp(), Fault.OUTPUT_DROPPED),
        (lambda x, g, h: h * x.cos() + g * x.exp(), Fault.OUTPUTS_CROSSED),
        (lambda x, g, h: 2 * g * x.cos() + h * x.exp(), None),
    ],
)
def test_cotangents_of_two_outputs_may_be_dropped_or_crossed(vjp, fault):
    explanation = cotangent.outputs_mixed(measured(setting(two, vjp), *ONE))
    assert (explanation and explanation.fault) is fault


def test_outputs_of_unlike_shapes_are_never_crossed_and_one_output_never_mixed():
    where = setting(lambda x: (x.sin(), x.exp().sum()), lambda x, g, h: 3 * g * x.cos() + h * x.exp())
    assert cotangent.outputs_mixed(measured(where, *ONE)) is None
    assert cotangent.outputs_mixed(measured(setting(), *ONE)) is None
    blind = setting(two, lambda x, g, h: g, oracle=False)
    samples = measured(setting(two, lambda x, g, h: g), *ONE).samples
    assert cotangent.outputs_mixed(evidence(*samples, where=blind)) is None


# --- region -------------------------------------------------------------------------------------------------------


def local(mask, shapes=((4, 5), (6, 3)), scale=1.0, right=()):
    """Evidence of a gradient twice as large where ``mask(leaf)``."""
    samples = []
    for i, s in enumerate(shapes):
        leaf, truth = scale * randn(*s, seed=i), randn(*s, seed=i + 50)
        samples.append(sample(truth, torch.where(mask(leaf), 2 * truth, truth), leaf=leaf))
    return evidence(*samples, right=right)


def place(axis):
    return lambda x: torch.arange(x.shape[axis]).reshape([-1 if a == axis else 1 for a in range(x.dim())]).expand_as(x)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (lambda x: x < 0, "where x < 0"),
        (lambda x: x > 0, "where x > 0"),
        (lambda x: x.abs() > 1, "where |x| > "),
        (lambda x: x.abs() < 0.5, "where |x| < "),
        (lambda x: x > 0.6, "where x > "),
        (lambda x: x < -0.6, "where x < -"),
        (lambda x: place(0)(x) == 0, "in dimension 0 is the first"),
        (lambda x: place(0)(x) == len(x) - 1, "in dimension 0 is the last"),
        (lambda x: place(1)(x) % 2 == 1, "in dimension 1 is odd"),
        (lambda x: place(1)(x) % 2 == 0, "in dimension 1 is even"),
        (lambda x: place(0)(x) >= 2, "in dimension 0 is 2 or beyond"),
        (lambda x: torch.arange(x.numel()).reshape(x.shape) >= 8, "flattened x is 8 or beyond"),
    ],
)
def test_a_region_is_told_by_its_condition(mask, words):
    explanation = region.region(local(mask))
    assert explanation.fault is Fault.WRONG_REGION
    assert words in explanation.message
    assert explanation.holds(local(mask).samples[1])


def test_zeros_are_a_region():
    leaf = torch.tensor([[0.0, 1.0, -1.0, 2.0, 0.0, -3.0, 0.0, 1.0]] * 2, dtype=F64)
    truth = randn(2, 8)
    found = evidence(sample(truth, torch.where(leaf == 0, 2 * truth, truth), leaf=leaf))
    assert "x = 0" in region.region(found).message


def test_a_region_may_belong_to_another_argument():
    where = setting(lambda x, y: x * y, lambda x, y, g: (torch.where(y < 0, 2.0, 1.0) * g * y, g * x))
    found = measured(where, (randn(4, 5), randn(4, 5, seed=1)), (randn(6, 3), randn(6, 3, seed=2)))
    assert region.region(found).message == "gradient of x is wrong only where y < 0"


def test_a_region_is_told_from_cases_that_pass():
    right = [correct(randn(4, 5, seed=i), leaf=randn(4, 5, seed=i + 7)) for i in range(2)]
    found = local(lambda x: x.abs() > 0, scale=1000.0, right=right)
    assert "|x| > " in region.region(found).message


@pytest.mark.parametrize(
    ("mask", "shapes"),
    [
        (lambda x: torch.ones_like(x, dtype=torch.bool), ((4, 5), (6, 3))),
        (lambda x: x < 0, ((2, 2),)),
        (lambda x: (40 * x).sin() > 0, ((4, 5), (6, 3))),
        (lambda x: torch.zeros_like(x, dtype=torch.bool), ((4, 5),)),
    ],
    ids=["everywhere", "too few elements", "no simple condition", "nothing wrong"],
)
def test_what_chance_may_bring_about_is_no_region(mask, shapes):
    assert region.region(local(mask, shapes)) is None


def test_complex_arguments_have_no_regions_of_values():
    where = setting(lambda x: x * 2, lambda x, g: torch.where(x.real < 0, 3.0, 2.0) * g)
    assert region.region(measured(where, (randn(4, 5, dtype=torch.complex128),))) is None


def test_a_few_wrong_elements_are_named():
    got = TRUTHS[0].clone()
    got[2, 1] += 1
    explanation = region.few_elements(evidence(sample(TRUTHS[0], got)))
    assert explanation.message == "gradient of x is wrong in 1 of 12 elements: [2, 1]"
    assert explanation.holds(sample(TRUTHS[0], got))
    assert not explanation.holds(correct(TRUTHS[0]))
    many = explanation.retold(sample(TRUTHS[0], TRUTHS[0] + 1))
    assert "12 of 12" in many
    assert many.endswith("…")


def test_elements_that_are_wrong_at_other_places_next_time_are_not_named():
    samples = []
    for number, t in enumerate(SAME[:2]):
        got = t.clone()
        got[number, 1] += 1
        samples.append(sample(t, got))
    assert region.few_elements(evidence(*samples)) is None
    assert region.few_elements(seen(lambda t: t + 1)) is None
    assert region.few_elements(seen(lambda t: t)) is None
    assert region.few_elements(evidence(sample(TRUTHS[0], TRUTHS[1]))) is None


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (seen(lambda t: t * t), "in no pattern that was recognised; the closest multiple"),
        (seen(lambda t: t + 1, truths=[torch.tensor([2.0], dtype=F64)]), "in no pattern that was recognised"),
        (seen(torch.ones_like, truths=[torch.zeros(2, dtype=F64)]), "closest multiple of the right one is 0"),
        (evidence(sample(TRUTHS[0], TRUTHS[1], detail="G·v = 3")), "G·v = 3"),
        (evidence(sample(TRUTHS[0], TRUTHS[1], oracle="differences")), "x disagrees with differences"),
    ],
)
def test_what_nothing_explains_is_unknown(found, words):
    explanation = region.unknown(found)
    assert explanation.fault is Fault.UNKNOWN
    assert words in explanation.message


# --- shapes -------------------------------------------------------------------------------------------------------


def of_shapes(failing, passing):
    where = setting()
    cases = [case(where, randn(*s)) for s in passing]
    return evidence(*(sample(randn(*s), randn(*s, seed=1)) for s in failing), passing=cases)


@pytest.mark.parametrize(
    ("failing", "passing", "words"),
    [
        ([(1, 3), (1, 4)], [(2, 3), (5, 4)], "x has size 1 in dimension 0"),
        ([(3, 5), (2, 9)], [(3, 3), (2, 4)], "x has size 5 or more in dimension 1"),
        ([(3, 5), (2, 9)], [(3, 16), (2, 4)], "dimension 1 is no multiple of 2"),
        ([(4, 8), (16, 2)], [(4, 2), (2, 8)], "x has 32 elements or more"),
    ],
)
def test_sizes_that_separate_failing_from_passing_cases_are_told(failing, passing, words):
    explanation = shapes.wrong_for_shape(of_shapes(failing, passing))
    assert explanation.fault is Fault.WRONG_FOR_SHAPE
    assert words in explanation.message


@pytest.mark.parametrize(
    ("failing", "passing"),
    [
        ([(1, 3)], [(2, 3), (5, 4)]),
        ([(1, 3), (1, 4)], [(2, 3)]),
        ([(3, 4), (2, 3)], [(3, 4), (2, 3)]),
        ([(2, 3), (2,)], [(3, 3), (3,)]),
    ],
    ids=["one failing", "one passing", "no property", "other dims"],
)
def test_too_few_cases_or_no_property_tell_no_shape(failing, passing):
    assert shapes.wrong_for_shape(of_shapes(failing, passing)) is None


# --- evidence -----------------------------------------------------------------------------------------------------


def test_passing_cases_become_samples_of_the_right_gradient():
    from gradharness.diagnosis import right_samples

    def vjp(x, g):
        if len(x) == 4:
            raise ValueError("four")
        return None if len(x) == 3 else 2 * g

    where = setting(lambda x: 2 * x, vjp)
    cases = [case(where, randn(n)) for n in (0, 2, 3, 4)]
    found = right_samples(where, "x", cases)
    assert [tuple(s.expected.shape) for s in found] == [(2,), (3,)]
    assert torch.equal(found[0].got, 2 * cases[1].cotangents[0])
    assert not found[1].got.any()
    assert right_samples(where, "output", cases) == ()


def test_a_sample_knows_its_leaf_and_what_is_wrong():
    one = sample(TRUTHS[0], None)
    assert not one.got.any()
    assert one.wrong.all()
    assert one.leaf is one.case.primals.leaves[0]
    assert sample(TRUTHS[0], TRUTHS[0], label="output").leaf is None
    assert not correct(torch.zeros(2, dtype=F64)).right.any()
    assert not sample(torch.tensor([math.nan]), torch.tensor([1.0])).right.any()


def test_without_an_explanation_the_answer_is_unknown():
    where = setting(lambda x: x.sin(), lambda x, g: g * x)
    assert diagnose(measured(where, *((t,) for t in SAME))).fault is Fault.UNKNOWN
