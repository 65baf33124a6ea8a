"""What every oracle promises: the right derivative of known functions, within the bound that it states."""

from __future__ import annotations

import math

import pytest
import torch

from gradharness.errors import OracleUnavailable
from gradharness.inputs.recipe import Directions, Recipe, cotangents
from gradharness.model.case import Case
from gradharness.model.estimate import Smoothness
from gradharness.model.subject import Primals
from gradharness.oracles.autograd import Autograd
from gradharness.oracles.base import GradientOracle, SlopeOracle
from gradharness.oracles.finite_difference import FiniteDifference
from gradharness.oracles.forward_mode import ForwardMode
from gradharness.subjects import FunctionSubject

# Function, point, and its derivative as a formula: the gradient of ⟨w, f(x)⟩.
KNOWN = {
    "sin": (torch.sin, lambda x, w: w * torch.cos(x).conj()),
    "square": (lambda x: x * x, lambda x, w: 2 * w * x.conj()),
    "product": (lambda x: x * (3 - x), lambda x, w: w * (3 - 2 * x).conj()),
    "exp": (torch.exp, lambda x, w: w * torch.exp(x).conj()),
    "sum": (lambda x: x.sum().reshape(1), lambda x, w: w.expand(x.shape)),
    "cumsum": (lambda x: x.cumsum(0), lambda x, w: w.flip(0).cumsum(0).flip(0)),
    "matrix": (lambda x: torch.stack([x, 2 * x]).sum(0), lambda x, w: 3 * w),
    "constant factor": (lambda x: x * 1e3, lambda x, w: w * 1e3),
}
REAL_ONLY = {
    "tanh": (torch.tanh, lambda x, w: w * (1 - torch.tanh(x) ** 2)),
    "log": (lambda x: torch.log(x.abs() + 1), lambda x, w: w * x.sign() / (x.abs() + 1)),
    "softmax": (
        lambda x: x.softmax(0),
        lambda x, w: x.softmax(0) * (w - (w * x.softmax(0)).sum()),
    ),
}
DTYPES = (torch.float64, torch.float32, torch.complex128)
CASES = [(name, dtype) for dtype in DTYPES for name in (*KNOWN, *(() if dtype.is_complex else REAL_ONLY))]


def case_of(function, dtype, seed, size=5):
    g = torch.Generator().manual_seed(seed)
    real = torch.float64 if dtype.is_complex else dtype
    x = torch.randn(size, generator=g, dtype=torch.float64).to(real)
    if dtype.is_complex:
        x = torch.complex(x, torch.randn(size, generator=g, dtype=torch.float64))
    primals = Primals(("x",), (x,), ((0,),))
    linearization = FunctionSubject("f", function).linearize(primals)
    recipe = Recipe(seed=seed)
    return Case(
        primals=primals,
        outputs=linearization.outputs,
        output_labels=linearization.labels,
        differentiable=linearization.differentiable,
        cotangents=cotangents(recipe, linearization.cotangent_like),
        other_cotangents=cotangents(recipe, linearization.cotangent_like, stream=1),
        directions=Directions(recipe, primals.leaves),
        recipe=recipe.to_json(),
    )


def wide(t):
    return t.to(torch.complex128 if t.is_complex() else torch.float64)


def truth(name, case):
    """The gradient in float64, at exactly the case's values."""
    formula = {**KNOWN, **REAL_ONLY}[name][1]
    return formula(wide(case.primals.leaves[0]), wide(case.cotangents[0]))


def handwritten(function):
    """A Function of this forward whose backward is of no use, so that the own forward's autograd is another source."""

    def forward(ctx, x):
        return function(x)

    def backward(ctx, *grads):
        raise AssertionError("the own forward's backward is autograd's")

    methods = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    return type("Handwritten", (torch.autograd.Function,), methods).apply


def gradient_oracles(function, dtype):
    subject = FunctionSubject("f", function)
    real = dtype.to_real() if dtype.is_complex else dtype
    own = FunctionSubject("f", handwritten(function)).own_forward()
    assert own is not None
    return [Autograd("autograd of the reference", subject), Autograd("autograd of the own forward", own, real)]


def slope_oracles(function):
    return [FiniteDifference(FunctionSubject("f", function)), ForwardMode(function)]


@pytest.mark.parametrize(("name", "dtype"), CASES, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_elementwise_oracles_cover_the_true_error(name, dtype, seed):
    function = {**KNOWN, **REAL_ONLY}[name][0]
    case = case_of(function, dtype, seed)
    for oracle in gradient_oracles(function, dtype):
        assert isinstance(oracle, GradientOracle)
        estimate = oracle.gradients(case)
        assert estimate.oracle == oracle.name
        (found,), (bound,) = estimate.gradients, estimate.bounds
        error = (wide(found) - truth(name, case)).abs()
        assert bool((error <= bound + 1e-300).all()), (oracle.name, error, bound)
        assert float(torch.as_tensor(bound).max()) <= 1e-4 * float(found.abs().max())


@pytest.mark.parametrize(("name", "dtype"), CASES, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_slope_oracles_cover_the_true_error(name, dtype, seed):
    function = {**KNOWN, **REAL_ONLY}[name][0]
    case = case_of(function, dtype, seed)
    for oracle in slope_oracles(function):
        assert isinstance(oracle, SlopeOracle)
        for tangent in (case.directions[0], case.directions[1]):
            estimate = oracle.slope(case, tangent)
            gradient = truth(name, case)
            expected = float((gradient.conj() * wide(tangent[0])).real.sum())
            scale = float((gradient * tangent[0]).abs().square().sum().sqrt())
            eps = torch.finfo(case.cotangents[0].dtype).eps
            assert estimate.smoothness is Smoothness.SMOOTH
            assert abs(estimate.value - expected) <= estimate.bound + 8 * eps * scale, oracle.name
            assert estimate.bound <= 1e-2 * scale
            assert estimate.calls > 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_other_cotangents_are_taken_where_given(dtype):
    case = case_of(torch.sin if not dtype.is_complex else lambda x: x * x, dtype, 1)
    function = torch.sin if not dtype.is_complex else lambda x: x * x
    for oracle in slope_oracles(function):
        zero = oracle.slope(case, case.directions[0], tuple(torch.zeros_like(w) for w in case.cotangents))
        assert zero.value == 0.0


def test_an_oracle_whose_source_raises_has_no_answer():
    def raising(x):
        raise ValueError("no")

    case = case_of(torch.sin, torch.float64, 0)
    for oracle in (*gradient_oracles(raising, torch.float64), *slope_oracles(raising)):
        with pytest.raises(OracleUnavailable):
            oracle.gradients(case) if isinstance(oracle, Autograd) else oracle.slope(case, case.directions[0])


def test_an_oracle_whose_source_has_other_outputs_has_no_answer():
    for function in (lambda x: x[:2], lambda x: (x, x)):
        case = case_of(torch.sin, torch.float64, 0)
        for oracle in (*gradient_oracles(function, torch.float64), ForwardMode(function)):
            with pytest.raises(OracleUnavailable):
                oracle.gradients(case) if isinstance(oracle, Autograd) else oracle.slope(case, case.directions[0])


def test_an_oracle_that_is_not_connected_has_no_answer():
    case = case_of(torch.sin, torch.float64, 0)
    oracle = Autograd("autograd of the reference", FunctionSubject("f", lambda x: x.detach().sin()))
    with pytest.raises(OracleUnavailable, match="no output is connected"):
        oracle.gradients(case)
    with pytest.raises(OracleUnavailable, match="lost its tangent"):
        ForwardMode(lambda x: x.detach().sin()).slope(case, case.directions[0])


def test_an_oracle_that_differentiates_other_outputs_has_no_answer():
    def both(x):
        return x.sin(), x.cos()

    case = case_of(lambda x: (x.sin(), x.cos().detach()), torch.float64, 0)
    assert case.differentiable == (0,)
    with pytest.raises(OracleUnavailable, match="differentiates other outputs"):
        Autograd("autograd of the reference", FunctionSubject("f", both)).gradients(case)


def test_a_backward_that_raises_leaves_no_answer():
    class Raising(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.sin()

        @staticmethod
        def backward(ctx, g):
            raise ValueError("no")

    case = case_of(torch.sin, torch.float64, 0)
    with pytest.raises(OracleUnavailable, match="no"):
        Autograd("autograd of the reference", FunctionSubject("f", Raising.apply)).gradients(case)


def test_conditioning_measures_what_the_rounding_of_the_inputs_does():
    case = case_of(lambda x: torch.sin(1e6 * x), torch.float64, 0)
    oracle = Autograd("autograd of the reference", FunctionSubject("f", lambda x: torch.sin(1e6 * x)))
    (noise,) = oracle.conditioning(case, oracle.gradients(case))
    assert 1e-6 < float(noise.max()) < 1e-1  # the gradient is 1e6, an ulp of x moves it by 1e12 ulps
    smooth = Autograd("autograd of the reference", FunctionSubject("f", torch.sin))
    (little,) = smooth.conditioning(case_of(torch.sin, torch.float64, 0), smooth.gradients(case))
    assert float(little.max()) < 1e-12


def test_conditioning_of_a_source_that_rejects_neighbours_is_its_floor_alone():
    case = case_of(torch.sin, torch.float64, 0)
    here = case.primals.leaves[0].clone()

    def picky(x):
        if not torch.equal(x.detach(), here):
            raise ValueError("elsewhere")
        return x.sin()

    oracle = Autograd("autograd of the reference", FunctionSubject("f", picky))
    (noise,) = oracle.conditioning(case, oracle.gradients(case))
    assert 0 < float(noise.max()) < 1e-12


def test_an_infinite_element_leaves_the_others_their_bound():
    def function(x):
        return torch.cat([(x[:1] * 0).sqrt(), x[1:].sin()])

    case = case_of(function, torch.float64, 0)
    estimate = Autograd("autograd of the reference", FunctionSubject("f", function)).gradients(case)
    assert not bool(estimate.gradients[0][0].isfinite())
    assert math.isfinite(float(estimate.bounds[0]))
