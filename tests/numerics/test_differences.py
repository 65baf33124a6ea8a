"""The bound covers the error on functions of known derivative; kinks never give a confident wrong number."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from gradharness.numerics import differences, noise
from gradharness.numerics.differences import FLOAT32, FLOAT64, Precision, Slope

Tensor = torch.Tensor
Draw = Callable[[torch.Generator], Tensor]


def normal(*shape: int, scale: float = 1.0, mean: float = 0.0) -> Draw:
    return lambda g: torch.randn(*shape, generator=g, dtype=torch.float64) * scale + mean


def positive(*shape: int, scale: float = 1.0) -> Draw:
    return lambda g: (torch.rand(*shape, generator=g, dtype=torch.float64) + 0.5) * scale


@dataclass(frozen=True)
class Known:
    """A function, its derivative along v in closed form, and where to try it."""

    f: Callable[[Tensor], Tensor]
    jvp: Callable[[Tensor, Tensor], Tensor]
    draw: Draw
    single: bool = True  # whether float32 can resolve it


def elementwise(
    f: Callable[[Tensor], Tensor], df: Callable[[Tensor], Tensor], draw: Draw, *, single: bool = True
) -> Known:
    return Known(f, lambda x, v: df(x) * v, draw, single)


A = torch.linspace(-1, 1, 15, dtype=torch.float64).reshape(5, 3).sin()


def softmax_jvp(x: Tensor, v: Tensor) -> Tensor:
    s = x.softmax(-1)
    return s * (v - (s * v).sum(-1, keepdim=True))


def standardized(x: Tensor) -> Tensor:
    z = x - x.mean(-1, keepdim=True)
    return z / (z.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def standardized_jvp(x: Tensor, v: Tensor) -> Tensor:
    z, dz = x - x.mean(-1, keepdim=True), v - v.mean(-1, keepdim=True)
    s = (z.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return dz / s - z * (z * dz).mean(-1, keepdim=True) / s**3


def cumprod_jvp(x: Tensor, v: Tensor) -> Tensor:
    return x.cumprod(-1) * (v / x).cumsum(-1)


KNOWN = {
    "sin": elementwise(torch.sin, torch.cos, normal(7)),
    "cos": elementwise(torch.cos, lambda x: -x.sin(), normal(7, scale=3)),
    "exp": elementwise(torch.exp, torch.exp, normal(7)),
    "tanh": elementwise(torch.tanh, lambda x: 1 - x.tanh() ** 2, normal(7)),
    "sigmoid": elementwise(torch.sigmoid, lambda x: x.sigmoid() * (-x).sigmoid(), normal(7)),
    "atan": elementwise(torch.atan, lambda x: 1 / (1 + x * x), normal(7)),
    "cube": elementwise(lambda x: x**3, lambda x: 3 * x**2, normal(7)),
    "square": elementwise(torch.square, lambda x: 2 * x, normal(7, scale=1e3)),
    "lorentzian": elementwise(lambda x: 1 / (1 + x * x), lambda x: -2 * x / (1 + x * x) ** 2, normal(7)),
    "log1p_square": elementwise(lambda x: (1 + x * x).log(), lambda x: 2 * x / (1 + x * x), normal(7)),
    "softplus": elementwise(torch.nn.functional.softplus, torch.sigmoid, normal(7)),
    "erf": elementwise(torch.erf, lambda x: 2 / math.sqrt(math.pi) * (-x * x).exp(), normal(7)),
    "gaussian": elementwise(lambda x: (-x * x).exp(), lambda x: -2 * x * (-x * x).exp(), normal(7)),
    "sinh": elementwise(torch.sinh, torch.cosh, normal(7)),
    "sin_1000x": elementwise(lambda x: (1000 * x).sin(), lambda x: 1000 * (1000 * x).cos(), normal(7), single=False),
    "huge_offset": elementwise(lambda x: 1e10 + x.cos(), lambda x: -x.sin(), normal(7), single=False),
    "tiny_signal": elementwise(lambda x: 1 + 1e-8 * x.sin(), lambda x: 1e-8 * x.cos(), normal(7), single=False),
    "log_tiny": elementwise(torch.log, lambda x: 1 / x, positive(7, scale=1e-6)),
    "sqrt": elementwise(torch.sqrt, lambda x: 0.5 / x.sqrt(), positive(7)),
    "reciprocal": elementwise(torch.reciprocal, lambda x: -1 / x**2, positive(7)),
    "xlogx": elementwise(lambda x: x * x.log(), lambda x: x.log() + 1, positive(7)),
    "identity": elementwise(lambda x: x * 1.0, torch.ones_like, normal(7)),
    "sum_of_squares": Known(lambda x: x.square().sum()[None], lambda x, v: 2 * (x * v).sum()[None], normal(40)),
    "norm_near_zero": Known(
        lambda x: x.norm()[None], lambda x, v: ((x * v).sum() / x.norm())[None], normal(6, scale=1e-9)
    ),
    "logsumexp": Known(lambda x: x.logsumexp(-1), lambda x, v: (x.softmax(-1) * v).sum(-1), normal(3, 8)),
    "softmax": Known(lambda x: x.softmax(-1), softmax_jvp, normal(3, 8)),
    "log_softmax": Known(
        lambda x: x.log_softmax(-1), lambda x, v: v - (x.softmax(-1) * v).sum(-1, keepdim=True), normal(3, 8)
    ),
    "matmul": Known(lambda x: x @ A.to(x.dtype), lambda x, v: v @ A, normal(4, 5)),
    "gram": Known(lambda x: x @ x.T, lambda x, v: v @ x.T + x @ v.T, normal(4, 5)),
    "cumsum": Known(lambda x: x.cumsum(-1), lambda x, v: v.cumsum(-1), normal(2, 9)),
    "cumprod": Known(lambda x: x.cumprod(-1), cumprod_jvp, positive(2, 6)),
    "inverse": Known(
        torch.linalg.inv,
        lambda x, v: -torch.linalg.inv(x) @ v @ torch.linalg.inv(x),
        lambda g: normal(3, 3, scale=0.2)(g) + torch.eye(3, dtype=torch.float64),
    ),
    "layer_norm": Known(standardized, standardized_jvp, normal(3, 8)),
    "layer_norm_mean_1e4": Known(standardized, standardized_jvp, normal(3, 8, mean=1e4), single=False),
    "normalize": Known(
        lambda x: x / x.norm(dim=-1, keepdim=True),
        lambda x, v: (
            (v - x * (x * v).sum(-1, keepdim=True) / x.square().sum(-1, keepdim=True)) / x.norm(dim=-1, keepdim=True)
        ),
        normal(3, 5),
    ),
}


@dataclass(frozen=True)
class Setup:
    """One line through one point, with the truth and the reference's own rounding."""

    line: Callable[[float], Tensor]
    y0: Tensor
    noise: Tensor
    truth: Tensor
    rounding: Tensor

    def slope(self, precision: Precision = FLOAT64) -> Slope:
        return differences.slope(self.line, self.y0, self.noise, precision=precision)


def set_up(known: Known, seed: int, dtype: torch.dtype = torch.float64, *, stretch: float = 1.0) -> Setup:
    """Draws x, and v of its standard deviation times ``stretch``."""
    g = torch.Generator().manual_seed(seed)
    x = known.draw(g).to(dtype)
    v = signed(x, g).mul(x.double().std() * stretch).to(dtype)
    eps = torch.finfo(dtype).eps

    def line(t: float) -> Tensor:
        return known.f(torch.add(x, v, alpha=t)).reshape(-1).double()

    y0 = line(0.0)
    there = [known.f(noise.beside(x, n, eps=eps)).reshape(-1).double() for n in range(3)]
    truth = known.jvp(x.double(), v.double()).reshape(-1)
    moved = [known.jvp(noise.beside(x.double(), n), v.double()).reshape(-1) for n in range(3)]
    rounding = 4 * torch.stack([(m - truth).abs() for m in moved]).amax(0) + 1e-15 * truth.abs().max()
    return Setup(line, y0, noise.noise_floor(y0, there, eps=eps), truth, rounding)


def signed(x: Tensor, g: torch.Generator) -> Tensor:
    """Random signs times U(.5, 1.5)."""
    signs = torch.randint(0, 2, x.shape, generator=g) * 2 - 1
    return signs * (torch.rand(x.shape, generator=g, dtype=torch.float64) + 0.5)


@pytest.mark.parametrize("name", KNOWN)
def test_bound_covers_error(name: str) -> None:
    """Every output, ten seeds, three lengths of the tangent; the noise-free ones closely."""
    for seed in range(10):
        for stretch in (0.1, 1.0, 3.0):
            s = set_up(KNOWN[name], seed, stretch=stretch)
            found = s.slope()
            assert bool(found.usable.all()), (name, seed, stretch)
            error = (found.value - s.truth).abs()
            assert bool((error <= found.bound + s.rounding).all()), (name, seed, stretch, error / found.bound)
            assert found.calls <= 30


@pytest.mark.parametrize("name", [n for n, k in KNOWN.items() if "offset" not in n and "tiny_signal" not in n])
def test_bound_is_narrow(name: str) -> None:
    bars = []
    for seed in range(10):
        s = set_up(KNOWN[name], seed)
        bars.append(float(s.slope().bound.norm() / s.truth.norm()))
    assert sorted(bars)[5] < 1e-7


@pytest.mark.parametrize("name", [n for n, k in KNOWN.items() if k.single])
def test_float32(name: str) -> None:
    """In float32 the bounds are wide, and cover the error but for noise that no ulp of x shows (log(1 + x²) near 0)."""
    outputs = covered = 0
    for seed in range(20):
        s = set_up(KNOWN[name], seed, torch.float32)
        found = s.slope(FLOAT32)
        usable = found.usable
        outputs += usable.numel()
        covered += int(((found.value - s.truth).abs() <= found.bound + s.rounding)[usable].sum()) + int((~usable).sum())
        assert int(usable.sum()) >= 0.5 * usable.numel(), (name, seed)
    assert covered >= 0.99 * outputs


@pytest.mark.parametrize("name", KNOWN)
def test_quick_bound_covers_error(name: str) -> None:
    for seed in range(20):
        s = set_up(KNOWN[name], seed)
        weights = signed(s.y0, torch.Generator().manual_seed(seed + 1))
        found = differences.quick_slope(s.line, s.y0, weights)
        truth = float((weights * s.truth).sum())
        rounding = float((weights * s.rounding).norm())
        if found.smooth and found.bound <= 1e-7 * found.scale:
            assert abs(found.value - truth) <= found.bound + rounding, (name, seed)


def test_quick_is_content_with_plain_functions() -> None:
    for name in ("sin", "tanh", "exp", "softmax", "matmul", "layer_norm", "normalize", "cumprod", "log_tiny"):
        content = 0
        for seed in range(20):
            s = set_up(KNOWN[name], seed)
            found = differences.quick_slope(s.line, s.y0, torch.ones_like(s.y0))
            content += found.smooth and found.bound <= 1e-7 * found.scale
        assert content >= 18, name


# ------------------------------------------------------------------------------------------------------------- kinks

KINKS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "relu": (torch.relu, 0.0),
    "abs": (torch.abs, 0.0),
    "clamp": (lambda x: x.clamp(-1, 1), 1.0),
    "hardtanh": (torch.nn.functional.hardtanh, -1.0),
    "leaky_relu": (torch.nn.functional.leaky_relu, 0.0),
    "softshrink": (torch.nn.functional.softshrink, 0.5),
    "hardshrink": (torch.nn.functional.hardshrink, 0.5),
    "round": (torch.round, 0.5),
    "floor": (torch.floor, 1.0),
    "sign": (torch.sign, 0.0),
    "frac": (torch.frac, 1.0),
    "cbrt": (lambda x: x.sign() * x.abs() ** (1 / 3), 0.0),
    "sqrt": (torch.sqrt, 0.0),
    "sqrt_abs": (lambda x: x.abs().sqrt(), 0.0),
    "small_jump": (lambda x: x + 1e-7 * (x > 0), 0.0),
    "square_of_relu": (lambda x: x.relu() ** 2, 0.0),
    "wiggle": (lambda x: x**2 * (1 / x).sin(), 0.0),
    "maximum": (lambda x: torch.maximum(x, 2 * x), 0.0),
}
DISTANCES = (0.0, *(s * 10.0**-n for n in range(5, 13) for s in (1, -1)))


def around(place: float, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points on and beside a kink, and tangents of natural length."""
    g = torch.Generator().manual_seed(seed)
    beside = torch.tensor(DISTANCES, dtype=torch.float64)
    x = place + beside[torch.randint(0, len(beside), (count,), generator=g)] * torch.rand(
        count, generator=g, dtype=torch.float64
    )
    return x, signed(x, g)


def derivative(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(f(x).sum(), x)[0]


@pytest.mark.parametrize("name", KINKS)
def test_quick_is_never_confident_and_wrong_at_kinks(name: str) -> None:
    """1,200 single elements per function, 21,600 in all: content only if autograd's value is within the tolerance."""
    f, place = KINKS[name]
    x, v = around(place, 1200, seed=3)
    values = {t: f(x + t * v) for h in FLOAT64.quick for t in (h, -h)}
    y, truth, one = f(x), derivative(f, x) * v, torch.ones(1, dtype=torch.float64)
    for i in range(len(x)):
        found = differences.quick_slope(lambda t, i=i: values[t][i : i + 1], y[i : i + 1], one)
        if found.smooth and found.bound <= 1e-7 * found.scale and math.isfinite(truth[i]):
            assert abs(found.value - float(truth[i])) <= 1e-6 * found.scale, (name, float(x[i]), found)


@pytest.mark.parametrize("name", KINKS)
def test_slope_is_never_confident_and_wrong_at_kinks(name: str) -> None:
    f, place = KINKS[name]
    x, v = around(place, 1500, seed=4)
    y = f(x)
    floor = noise.noise_floor(y, [f(noise.beside(x, n)) for n in range(3)])
    found = differences.slope(lambda t: f(x + t * v), y, floor)
    truth = derivative(f, x) * v
    sure = found.usable & truth.isfinite() & (found.bound <= 1e-3 * found.value.abs())
    error = (found.value - truth).abs()
    assert bool((error <= found.bound + 1e-6 * truth.abs())[sure].all()), name
    inside = (found.lower - found.bound <= truth) & (truth <= found.upper + found.bound)
    assert bool(inside[found.kink & truth.isfinite()].all()), name


@pytest.mark.parametrize("name", ["relu", "abs", "clamp", "leaky_relu", "maximum"])
def test_true_kinks_have_one_sided_slopes(name: str) -> None:
    f, place = KINKS[name]
    x = torch.full((50,), place, dtype=torch.float64)
    v = signed(x, torch.Generator().manual_seed(0))
    y = f(x)
    found = differences.slope(lambda t: f(x + t * v), y, noise.noise_floor(y, [y]))
    assert bool(found.kink.all())
    right, left = (f(x + v) - y), (y - f(x - v))
    if name == "clamp":  # v may step over the other edge
        right, left = torch.where(v < 0, v, 0), torch.where(v > 0, v, 0)
    assert bool(((found.right - right).abs() <= found.bound + 1e-12).all())
    assert bool(((found.left - left).abs() <= found.bound + 1e-12).all())


@pytest.mark.parametrize("name", ["round", "floor", "sign", "cbrt", "sqrt", "sqrt_abs"])
def test_jumps_and_infinite_slopes_are_not_kinks(name: str) -> None:
    f, place = KINKS[name]
    x = torch.tensor([place, 2.3], dtype=torch.float64)
    v = torch.ones_like(x)
    y = f(x)
    floor = noise.noise_floor(y, [f(noise.beside(x, n)) for n in range(3)])
    found = differences.slope(lambda t: f(x + t * v), y, floor)
    assert not bool(found.kink.any())
    assert found.usable.tolist() == [False, True]


def test_coarser_dtype_inside_is_not_taken_for_a_zero_slope() -> None:
    """bfloat16 inside a float64 function: nothing moves at fine steps, and that is not a derivative of zero."""
    x = torch.linspace(1.0, 1.7, 9, dtype=torch.float64)

    def line(t: float) -> Tensor:
        return (x + t).bfloat16().double()

    y = line(0.0)
    found = differences.slope(line, y, noise.noise_floor(y, [y]))
    assert not bool(found.usable.any())
    quick = differences.quick_slope(line, y, torch.ones_like(y))
    assert not quick.smooth


def test_values_that_are_not_finite_are_unresolved() -> None:
    y = torch.tensor([0.0, math.inf, math.nan], dtype=torch.float64)
    found = differences.slope(lambda t: y + t, y, noise.noise_floor(y, [y]))
    assert found.usable.tolist() == [True, False, False]
    assert found.bound[1:].tolist() == [math.inf, math.inf]
    assert not differences.quick_slope(lambda t: y + t, y, torch.ones_like(y)).smooth


def test_a_buffer_that_is_handed_out_again_does_no_harm() -> None:
    buffer = torch.zeros(3, dtype=torch.float64)
    x = torch.tensor([0.3, 0.4, 0.5], dtype=torch.float64)

    def line(t: float) -> Tensor:
        return torch.sin(x + t, out=buffer)

    y0 = x.sin()
    quick = differences.quick_slope(line, y0, torch.ones_like(y0))
    assert abs(quick.value - float(x.cos().sum())) <= quick.bound
    full = differences.slope(line, y0, noise.noise_floor(y0, [y0]))
    assert bool(((full.value - x.cos()).abs() <= full.bound + 1e-15).all())


# ------------------------------------------------------------------------------------------------------------- noise


def test_points_beside_differ_in_every_element_and_between_patterns() -> None:
    x = torch.cat([normal(50)(torch.Generator().manual_seed(0)), torch.zeros(3, dtype=torch.float64)])
    points = [noise.beside(x, n) for n in range(3)]
    assert all(bool((p != x).all()) for p in points)
    assert all(bool(((p - x).abs() <= 2.5 * FLOAT64.eps * x.abs().max()).all()) for p in points)
    same = [(points[i] == points[j]).double().mean() for i in range(3) for j in range(i)]
    assert all(0.05 < share < 0.6 for share in same)


def test_noise_floor_follows_the_median_loss_of_digits() -> None:
    y = torch.ones(5, dtype=torch.float64)
    ulp = FLOAT64.eps / 2
    quiet = noise.noise_floor(y, [y])
    assert quiet.tolist() == [ulp] * 5
    lossy = noise.noise_floor(y, [y + 100 * ulp * torch.tensor([0.0, 2, 2, 2, 40])])
    assert float(lossy[0]) == pytest.approx(float(lossy[1])) == pytest.approx(200 * ulp)
    assert float(lossy[4]) == pytest.approx(4000 * ulp)
    assert math.isinf(noise.noise_floor(y, [y * math.nan])[0])
