"""The finite-difference oracle: right where it is sure, silent or masked where there is no derivative."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
import torch

from gradharness.errors import ForwardRaised, OracleUnavailable
from gradharness.model.case import Case
from gradharness.model.estimate import Smoothness
from gradharness.model.subject import Linearization, Primals, RawReturn, Subject, Tensors
from gradharness.oracles.base import SlopeOracle
from gradharness.oracles.finite_difference import FiniteDifference
from gradharness.oracles.forward_mode import ForwardMode

Tensor = torch.Tensor
Function = Callable[..., Tensor | tuple[Tensor, ...]]


@dataclass(frozen=True)
class Plain:
    """A function as a subject that can only run forward; it counts its calls."""

    function: Function
    name: str = "plain"
    fixed_cotangent: bool = False
    calls: list[int] = field(default_factory=lambda: [0])

    def outputs(self, primals: Primals) -> Tensors:
        self.calls[0] += 1
        try:
            return as_tuple(self.function(*primals.values))
        except Exception as error:
            raise ForwardRaised(error) from error

    def linearize(self, primals: Primals) -> Linearization:
        raise NotImplementedError

    def traced(self, primals: Primals, leaves: Tensors) -> None:
        raise NotImplementedError

    def session(self, primals: Primals) -> None:
        raise NotImplementedError

    def raw_returns(self, primals: Primals, cotangents: Sequence[Tensor]) -> tuple[RawReturn, ...]:
        raise NotImplementedError

    def own_forward(self) -> Subject | None:
        return None


def as_tuple(value: Tensor | tuple[Tensor, ...]) -> Tensors:
    return value if isinstance(value, tuple) else (value,)


def random_like(t: Tensor, g: torch.Generator) -> Tensor:
    """Random signs times U(.5, 1.5), of the tensor's own standard deviation."""
    if t.is_complex():
        return torch.view_as_complex(random_like(torch.view_as_real(t), g))
    signs = torch.randint(0, 2, t.shape, generator=g) * 2 - 1
    spread = float(t.std()) if t.numel() > 1 else 0.0
    return (signs * (torch.rand(t.shape, generator=g) + 0.5) * (spread or 1.0)).to(t.dtype)


def make_case(function: Function, *leaves: Tensor, seed: int = 0, cotangents: Tensors | None = None) -> Case:
    g = torch.Generator().manual_seed(seed)
    primals = Primals(tuple("xyz"[: len(leaves)]), leaves, tuple((i,) for i in range(len(leaves))))
    outputs = as_tuple(function(*leaves))
    weights = cotangents or tuple(random_like(torch.ones_like(y), g) for y in outputs)
    return Case(
        primals=primals,
        outputs=outputs,
        output_labels=tuple(f"output[{i}]" for i in range(len(outputs))),
        differentiable=tuple(range(len(outputs))),
        cotangents=weights,
        other_cotangents=weights,
        directions=[tuple(random_like(x, g) for x in leaves)],
        recipe={},
    )


def truth(function: Function, case: Case, cotangents: Tensors | None = None, tangent: Tensors | None = None) -> float:
    """Re⟨gradient, tangent⟩ by autograd."""
    leaves = [x.clone().requires_grad_() for x in case.primals.leaves]
    grads = torch.autograd.grad(as_tuple(function(*leaves)), leaves, cotangents or case.cotangents, allow_unused=True)
    pairs = zip(grads, tangent or case.directions[0], strict=True)
    return sum(float((g.conj() * v).real.sum() if g.is_complex() else (g * v).sum()) for g, v in pairs if g is not None)


def randn(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 7) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


SMOOTH: dict[str, tuple[Function, Tensors]] = {
    "tanh": (torch.tanh, (randn(20),)),
    "matmul": (torch.matmul, (randn(4, 3), randn(3, 5))),
    "layer_norm": (lambda x, w: torch.nn.functional.layer_norm(x, (6,), w), (randn(4, 6), randn(6))),
    "softmax": (lambda x: x.softmax(-1), (randn(3, 7),)),
    "two_outputs": (lambda x, y: (x * y, (x.sin() * y).sum()), (randn(5), randn(5, seed=8))),
    "conv": (torch.nn.functional.conv1d, (randn(2, 3, 9), randn(4, 3, 3))),
    "det": (torch.linalg.det, (randn(3, 3),)),
    "log_of_tiny": (torch.log, (torch.tensor([1e-6, 1.0, 2.0, 3.0], dtype=torch.float64),)),
    "large_mean": (lambda x: torch.nn.functional.layer_norm(x, (8,)), (randn(3, 8) + 1e4,)),
    "zero_sized": (lambda x: x * 2, (randn(0, 3),)),
    "scalar": (lambda x: x * x, (randn(),)),
    "transposed": (lambda x: x.exp(), (randn(4, 3).T,)),
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", SMOOTH)
def test_slope_of_smooth_functions(name: str, seed: int) -> None:
    function, leaves = SMOOTH[name]
    case = make_case(function, *leaves, seed=seed)
    oracle = FiniteDifference(Plain(function))
    found = oracle.slope(case, case.directions[0])
    expected = truth(function, case)
    assert found.smoothness is Smoothness.SMOOTH
    assert found.masked is None
    rounding = 1e-10 if name == "large_mean" else 1e-12 * abs(expected)  # of autograd itself
    assert abs(found.value - expected) <= found.bound + rounding
    assert found.bound <= 1e-6 * max(1.0, abs(expected))
    forward = ForwardMode(function).slope(case, case.directions[0])
    assert abs(forward.value - expected) <= forward.bound + rounding


def test_both_oracles_keep_the_protocol() -> None:
    assert isinstance(FiniteDifference(Plain(torch.tanh)), SlopeOracle)
    assert isinstance(ForwardMode(torch.tanh), SlopeOracle)


def test_a_plain_function_costs_four_calls_and_one_for_the_point() -> None:
    subject = Plain(torch.tanh)
    case = make_case(torch.tanh, randn(9))
    oracle = FiniteDifference(subject)
    assert oracle.slope(case, case.directions[0]).calls == 4
    oracle.slope(case, case.directions[0], (torch.ones(9, dtype=torch.float64),))
    assert subject.calls[0] == 9


COMPLEX: dict[str, tuple[Function, Tensors]] = {
    "square": (lambda z: z * z, (randn(4, dtype=torch.complex128),)),
    "abs": (lambda z: z.abs(), (randn(4, dtype=torch.complex128),)),
    "conj_product": (
        lambda z, w: z.conj() * w,
        (randn(4, dtype=torch.complex128), randn(4, dtype=torch.complex128, seed=9)),
    ),
    "real_to_complex": (lambda x: torch.exp(1j * x), (randn(4),)),
    "fft": (torch.fft.fft, (randn(6),)),
    "lazy_conj": (lambda z: z.exp().conj(), (randn(4, dtype=torch.complex128),)),
}


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_follows_torchs_convention(name: str) -> None:
    """Re⟨w, Jv⟩ = Re⟨gradient, v⟩, where torch's gradient is the conjugate Wirtinger one."""
    function, leaves = COMPLEX[name]
    case = make_case(function, *leaves)
    expected = truth(function, case)
    for oracle in (FiniteDifference(Plain(function)), ForwardMode(function)):
        found = oracle.slope(case, case.directions[0])
        assert abs(found.value - expected) <= found.bound + 1e-12
        assert found.masked is None


def test_a_complex_element_is_masked_as_one() -> None:
    def function(z: Tensor) -> Tensor:
        return torch.complex(z.real.relu(), z.imag)

    z = torch.complex(torch.tensor([0.0, 1.0, -1.0]).double(), torch.tensor([1.0, 2.0, 3.0]).double())
    case = make_case(function, z)
    found = FiniteDifference(Plain(function)).slope(case, case.directions[0])
    assert found.masked is not None
    assert found.masked[0].tolist() == [True, False, False]
    masked = torch.where(found.masked[0], 0, case.cotangents[0])
    assert abs(found.value - truth(function, case, (masked,))) <= found.bound + 1e-12


TIES: dict[str, tuple[Function, Tensor]] = {
    "relu": (torch.relu, torch.tensor([0.0, 1.0, -1.0, 0.0]).double()),
    "abs": (torch.abs, torch.tensor([0.0, 1.0, -1.0]).double()),
    "clamp": (lambda x: x.clamp(-1, 1), torch.tensor([1.0, 0.5, -1.0, 2.0]).double()),
    "max": (lambda x: x.amax(-1), torch.tensor([[1.0, 1.0, 0.0], [2.0, 1.0, 0.0]]).double()),
    "sort": (lambda x: x.sort(-1).values, torch.tensor([[1.0, 1.0, 0.0], [2.0, 1.0, 0.0]]).double()),
    "sqrt": (torch.sqrt, torch.tensor([0.0, 1.0, 2.0]).double()),
    "round": (torch.round, torch.tensor([0.5, 1.5, 0.3]).double()),
    "one_dead": (lambda x: x.relu() + x, torch.tensor([0.0, 1.0]).double()),
}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", TIES)
def test_kinks_are_masked_and_the_rest_is_right(name: str, seed: int) -> None:
    function, x = TIES[name]
    case = make_case(function, x, seed=seed)
    found = FiniteDifference(Plain(function)).slope(case, case.directions[0])
    assert found.masked is not None
    assert found.masked[0].any()
    assert not found.masked[0].all()
    assert math.isfinite(found.value)
    masked = torch.where(found.masked[0], 0, case.cotangents[0])
    kept = torch.where(case.directions[0][0].isfinite() & (x != 0) | (name != "sqrt"), x, 1.0)
    expected = truth(function, make_case(function, kept, seed=seed), (masked,), case.directions[0])
    assert abs(found.value - expected) <= found.bound + 1e-9


@pytest.mark.parametrize("function", [lambda x: x.norm(), lambda x: x.abs().sum(), lambda x: x.amax()])
def test_nothing_but_kinks_is_a_kink(function: Function) -> None:
    x = torch.zeros(4, dtype=torch.float64)
    case = make_case(function, x)
    found = FiniteDifference(Plain(function)).slope(case, case.directions[0])
    assert found.smoothness is Smoothness.KINK
    assert found.bound == math.inf


def test_outside_the_domain_nothing_is_resolved() -> None:
    case = make_case(torch.log, torch.tensor([-1.0, -2.0], dtype=torch.float64))
    found = FiniteDifference(Plain(torch.log)).slope(case, case.directions[0])
    assert found.smoothness is Smoothness.UNRESOLVED


def test_noise_beyond_all_steps_is_not_a_slope() -> None:
    def function(x: Tensor) -> Tensor:
        return (1e17 + x) * 1.0

    case = make_case(function, randn(5))
    found = FiniteDifference(Plain(function)).slope(case, case.directions[0])
    assert found.smoothness is not Smoothness.SMOOTH


# ---------------------------------------------------------------------------------------------------------- one-sided


def test_the_interval_at_a_kink_spans_the_slopes_of_either_side() -> None:
    x = torch.tensor([0.0, 1.0], dtype=torch.float64)
    case = make_case(torch.relu, x, cotangents=(torch.tensor([1.0, 0.0], dtype=torch.float64),))
    tangent = (torch.tensor([-2.0, 0.0], dtype=torch.float64),)
    found = FiniteDifference(Plain(torch.relu)).interval(case, tangent)
    assert found is not None
    assert abs(found.lower - -2.0) <= found.bound + 1e-12
    assert abs(found.upper - 0.0) <= found.bound + 1e-12


def test_the_interval_takes_each_output_by_itself() -> None:
    # Weighted with opposite signs, the kinks of two outputs do not cancel: each may follow its own convention.
    w = torch.tensor([1.0, -1.0], dtype=torch.float64)
    case = make_case(torch.relu, torch.zeros(2, dtype=torch.float64), cotangents=(w,))
    found = FiniteDifference(Plain(torch.relu)).interval(case, (torch.ones(2, dtype=torch.float64),))
    assert found is not None
    assert abs(found.lower - -1.0) <= found.bound + 1e-12
    assert abs(found.upper - 1.0) <= found.bound + 1e-12


def test_the_interval_is_one_value_where_smooth() -> None:
    case = make_case(torch.tanh, randn(4))
    found = FiniteDifference(Plain(torch.tanh)).interval(case, case.directions[0])
    assert found is not None
    assert found.lower == found.upper
    assert abs(found.lower - truth(torch.tanh, case)) <= found.bound + 1e-13


@pytest.mark.parametrize(
    ("function", "x"), [(torch.round, 0.5), (torch.sqrt, 0.0), (torch.sign, 0.0), (lambda x: x.abs().sqrt(), 0.0)]
)
def test_at_jumps_and_infinite_slopes_there_is_no_interval_or_one_that_says_nothing(
    function: Function, x: float
) -> None:
    case = make_case(function, torch.tensor([x], dtype=torch.float64))
    found = FiniteDifference(Plain(function)).interval(case, case.directions[0])
    assert found is None or found.bound > abs(found.upper)


def test_flat_is_what_does_not_move_at_all() -> None:
    saturated = make_case(torch.tanh, torch.full((3,), 40.0, dtype=torch.float64))
    assert FiniteDifference(Plain(torch.tanh)).is_flat(saturated, saturated.directions[0])
    kinked = make_case(torch.abs, torch.zeros(3, dtype=torch.float64))
    assert not FiniteDifference(Plain(torch.abs)).is_flat(kinked, kinked.directions[0])


# ---------------------------------------------------------------------------------------------------------- linearity


def partitions(x: Tensor, count: int = 4) -> list[Tensors]:
    g = torch.Generator().manual_seed(5)
    return [(torch.randint(0, 8, x.shape, generator=g),) for _ in range(count)]


def median3(x: Tensor) -> Tensor:
    return x.median()


def test_the_median_of_ties_is_not_linear() -> None:
    x = torch.tensor([1.0, 1.0, 1.0, 5.0, -3.0], dtype=torch.float64)
    case = make_case(median3, x)
    oracle = FiniteDifference(Plain(median3))
    assert not oracle.is_linear_at(case, case.directions[0], partitions(x))


def test_a_smooth_function_is_linear_at_a_point() -> None:
    x = randn(12)
    case = make_case(lambda x: x.softmax(0), x)
    oracle = FiniteDifference(Plain(lambda x: x.softmax(0)))
    assert oracle.is_linear_at(case, case.directions[0], partitions(x))


# ------------------------------------------------------------------------------------------------ dtypes, refusals


def test_float32_subjects_get_a_wide_bound() -> None:
    for seed in range(10):
        case = make_case(torch.tanh, randn(10, dtype=torch.float32, seed=seed), seed=seed)
        found = FiniteDifference(Plain(torch.tanh)).slope(case, case.directions[0])
        assert found.smoothness is Smoothness.SMOOTH
        assert 1e-7 < found.bound < 1e-2
        assert abs(found.value - truth(torch.tanh, case)) <= found.bound


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused(dtype: torch.dtype) -> None:
    case = make_case(torch.tanh, randn(4).to(dtype))
    with pytest.raises(OracleUnavailable, match="float16"):
        FiniteDifference(Plain(torch.tanh)).slope(case, case.directions[0])


def test_a_forward_that_raises_beside_the_point_is_no_answer() -> None:
    x = torch.tensor([1.0, 2.0], dtype=torch.float64)

    def function(y: Tensor) -> Tensor:
        if not torch.equal(x, y):
            raise ValueError("only at x")
        return y * 2

    case = make_case(function, x)
    with pytest.raises(OracleUnavailable, match="only at x"):
        FiniteDifference(Plain(function)).slope(case, case.directions[0])


def test_outputs_that_change_their_size_are_no_answer() -> None:
    def function(x: Tensor) -> Tensor:
        return x[x > 0]

    case = make_case(function, torch.tensor([0.0, 1.0], dtype=torch.float64))
    with pytest.raises(OracleUnavailable, match="number of output elements"):
        FiniteDifference(Plain(function)).slope(case, case.directions[0])


class NoJvp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: object, g: Tensor) -> Tensor:
        return g * 2


def test_forward_mode_says_when_an_op_has_no_jvp() -> None:
    case = make_case(torch.sin, randn(3))
    with pytest.raises(OracleUnavailable, match="forward mode"):
        ForwardMode(NoJvp.apply).slope(case, case.directions[0])


def test_forward_mode_says_when_the_tangent_is_lost() -> None:
    case = make_case(torch.sin, randn(3))
    with pytest.raises(OracleUnavailable, match="lost its tangent"):
        ForwardMode(lambda x: x.detach() * 2).slope(case, case.directions[0])
