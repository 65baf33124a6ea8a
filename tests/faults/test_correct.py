"""Functions that are right, on the inputs where torch's own tools raise an alarm: no check calls them wrong."""

import pytest
import torch
import torch.nn.functional as F

from gradharness import Severity, check
from tests.faults.planting import function, randn


def at(*numbers, dtype=torch.float64):
    """One tensor of the given numbers."""
    return lambda: (torch.tensor(numbers, dtype=dtype, requires_grad=True),)


def shaped(*shape, dtype=torch.float64, scale=1.0):
    """One tensor of normal numbers."""
    return lambda: (randn(shape, scale=scale)()[0].detach().to(dtype).requires_grad_(),)


def repeated_eigenvalues():
    return (torch.diag(torch.tensor([1.0, 1.0, 2.0], dtype=torch.float64)).requires_grad_(),)


def overlapping():
    return (torch.randn(6, dtype=torch.float64).as_strided((4, 3), (1, 1)).requires_grad_(),)


def expanded():
    return (torch.randn(1, 4, dtype=torch.float64).expand(3, 4).requires_grad_(),)


class StraightThrough(torch.autograd.Function):
    """Rounds, and hands the cotangent through."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, g):
        return g


class ScalesGradient(torch.autograd.Function):
    """The identity; its gradient is a tenth."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return 0.1 * g


def scaled(x):
    """An identity whose autograd gradient is a tenth."""
    return 0.1 * x + (0.9 * x).detach()


def rounded(x):
    """A rounding whose autograd gradient is one."""
    return x + (x.round() - x).detach()


def projector(a):
    """The projector on the two lowest eigenvectors."""
    vectors = torch.linalg.eigh((a + a.mT) / 2).eigenvectors[..., :, :2]
    return vectors @ vectors.mT


def svd_projector(a):
    u = torch.linalg.svd(a, full_matrices=False).U
    return u @ u.mT


KINK = at(0.0, 1.0, -1.0)

CORRECT = {
    "relu at the kink": (torch.relu, KINK),
    "leaky_relu at the kink": (F.leaky_relu, KINK),
    "clamp at the kink": (lambda x: x.clamp(-1, 1), KINK),
    "amax with three ties": (lambda x: x.amax(-1), at(1.0, 1.0, 1.0, 0.0)),
    "amax with two ties": (lambda x: x.amax(-1), at(1.0, 1.0, 0.0)),
    "max with ties": (lambda x: x.max(-1), at(1.0, 1.0, 0.0)),
    "sort with ties": (lambda x: x.sort(-1).values, at(1.0, 1.0, 0.0)),
    "maximum with ties": (lambda x: torch.maximum(x, x.flip(-1)), at(1.0, 2.0, 1.0)),
    "median with ties": (lambda x: x.median(-1).values, at(1.0, 1.0, 0.0)),
    "sqrt at 0": (torch.sqrt, at(0.0, 1.0, 4.0)),
    "abs at 0": (torch.abs, KINK),
    "norm at 0": (lambda x: x.norm(dim=-1), at(0.0, 0.0, 0.0)),
    "relu at 5e-7": (torch.relu, at(5e-7, -5e-7, 1.0)),
    "log at 1e-5": (torch.log, at(1e-5, 1.0)),
    "reciprocal at 1e-5": (lambda x: 1 / x, at(1e-5, 1.0)),
    "exp at 30": (torch.exp, at(30.0, 1.0)),
    "sin(1e4 x)": (lambda x: torch.sin(1e4 * x), shaped(3, 4)),
    "sin(1e5 x)": (lambda x: torch.sin(1e5 * x), shaped(3, 4)),
    "sin at 1e10": (torch.sin, at(1e10, 1e10 + 1, -1e10)),
    "x + 1e8": (lambda x: x + 1e8, shaped(3, 4)),
    "x + 1e10": (lambda x: x + 1e10, shaped(3, 4)),
    "sum of squares + 1e8": (lambda x: x.square().sum() + 1e8, shaped(3, 4)),
    "x * 1 at 1e8": (lambda x: x * 1, at(1e8, 1e8 + 3, -1e8)),
    "round at 0.5": (torch.round, at(0.5, 1.5, 0.25)),
    "eigvalsh, repeated": (lambda a: torch.linalg.eigvalsh((a + a.mT) / 2), repeated_eigenvalues),
    "eigh projector, repeated": (projector, repeated_eigenvalues),
    "eigh vectors": (lambda a: torch.linalg.eigh((a + a.mT) / 2).eigenvectors.abs(), shaped(3, 3)),
    "svd U": (svd_projector, shaped(4, 2)),
    "svd U up to signs": (lambda a: torch.linalg.svd(a, full_matrices=False).U.abs(), shaped(4, 2)),
    "dropout": (lambda x: F.dropout(x, 0.5), shaped(3, 4)),
    "float32 sin": (torch.sin, shaped(3, 4, dtype=torch.float32)),
    "float32 matmul": (lambda x: x @ x.mT, shaped(3, 4, dtype=torch.float32)),
    "float32 layer_norm": (lambda x: F.layer_norm(x, x.shape[-1:]), shaped(3, 4, dtype=torch.float32)),
    "float32 softmax": (lambda x: x.softmax(-1), shaped(3, 4, dtype=torch.float32)),
    "float32 cube": (lambda x: x**3, shaped(3, 4, dtype=torch.float32)),
    "float16 sin": (torch.sin, shaped(3, 4, dtype=torch.float16)),
    "overlapping input": (torch.sin, overlapping),
    "input of stride zero": (torch.sin, expanded),
    "hand-written square at 1e8": (
        function(lambda x: x * x, lambda x, g: 2 * x * g),
        at(1e8, -1e8, 3.0),
    ),
}


def errors(report):
    return [f.message for f in report.findings if f.severity is Severity.ERROR]


@pytest.mark.parametrize("name", CORRECT)
def test_a_correct_function_gives_no_error(name):
    function, inputs = CORRECT[name]
    assert errors(check(function, inputs(), seed=0)) == []


@pytest.mark.parametrize(
    ("subject", "reference"),
    [(StraightThrough, rounded), (ScalesGradient, scaled)],
)
def test_a_gradient_that_is_meant_to_differ_gives_no_error(subject, reference):
    report = check(subject, shaped(3, 4)(), reference=reference, surrogate=True, seed=0)
    assert errors(report) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["float32 sin", "float32 layer_norm", "exp at 30"])
def test_a_correct_function_gives_no_error_in_few_bits(name, dtype):
    function, inputs = CORRECT[name]
    assert errors(check(function, inputs(), dtypes=(dtype,), seed=0)) == []
