"""Backwards written by hand, and right: the layers, losses and index operations that people write them for."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from gradharness import manual, pair, tensor
from properties.subjects import correct, integers, truths, uniform
from tests.faults.planting import function

X = (3, 4)


def _layer_norm_backward(x, w, b, g):
    mean = x.mean(-1, keepdim=True)
    rstd = (x.var(-1, keepdim=True, correction=0) + 1e-5).rsqrt()
    hat, gw = (x - mean) * rstd, g * w
    gx = rstd * (gw - gw.mean(-1, keepdim=True) - hat * (gw * hat).mean(-1, keepdim=True))
    return gx, (g * hat).sum(0), g.sum(0)


def _rms(x, w):
    return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * w


def _rms_backward(x, w, g):
    r = (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    gw = g * w
    return r * gw - x * r**3 * (gw * x).mean(-1, keepdim=True), (g * x * r).sum(0)


def _attention(q, k, v):
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v


def _attention_backward(q, k, v, g):
    scale = q.shape[-1] ** -0.5
    p = (q @ k.mT * scale).softmax(-1)
    gp = g @ v.mT
    gs = p * (gp - (gp * p).sum(-1, keepdim=True)) * scale
    return gs @ k, gs.mT @ q, p.mT @ g


def _conv(x, w):
    """A convolution along the last axis, by unfolding."""
    return torch.einsum("bclk,ock->bol", x.unfold(2, w.shape[2], 1), w)


def _conv_backward(x, w, g):
    k = w.shape[2]
    gw = torch.einsum("bclk,bol->ock", x.unfold(2, k, 1), g)
    padded = F.pad(g, (k - 1, k - 1)).unfold(2, k, 1)
    return torch.einsum("bolk,ock->bcl", padded, w.flip(2)), gw


def _lstm(x, h, c, w):
    i, f, o, u = (torch.cat([x, h], 1) @ w).chunk(4, 1)
    new = f.sigmoid() * c + i.sigmoid() * u.tanh()
    return o.sigmoid() * new.tanh(), new


def _lstm_backward(x, h, c, w, g, gc):
    joined = torch.cat([x, h], 1)
    i, f, o, u = (joined @ w).chunk(4, 1)
    i, f, o, u = i.sigmoid(), f.sigmoid(), o.sigmoid(), u.tanh()
    t = (f * c + i * u).tanh()
    inner = gc + g * o * (1 - t * t)
    gates = [inner * u * i * (1 - i), inner * c * f * (1 - f), g * t * o * (1 - o), inner * i * (1 - u * u)]
    gz = torch.cat(gates, 1)
    gx, gh = (gz @ w.mT).split([x.shape[1], h.shape[1]], 1)
    return gx, gh, inner * f, joined.mT @ gz


def _xent(x, t):
    return F.cross_entropy(x, t)


def _xent_backward(x, t, g):
    return g * (x.softmax(-1) - F.one_hot(t, x.shape[-1])) / len(x), None


def _segment(x, i):
    return x.new_zeros(3, x.shape[1]).index_add(0, i, x)


def _batch_norm(x, w, b):
    mean, var = x.mean(0), x.var(0, correction=0)
    return (x - mean) * (var + 1e-5).rsqrt() * w + b


def _batch_norm_backward(x, w, b, g):
    rstd = (x.var(0, correction=0) + 1e-5).rsqrt()
    hat, gw = (x - x.mean(0)) * rstd, g * w
    return rstd * (gw - gw.mean(0) - hat * (gw * hat).mean(0)), (g * hat).sum(0), g.sum(0)


class Assigns:
    """A layer that leaves its gradients on itself."""

    def __init__(self):
        g = torch.Generator().manual_seed(3)
        self.w = torch.randn(4, 2, generator=g, dtype=torch.float64)

    def forward(self, x):
        self.x = x
        return x @ self.w

    def backward(self, g):
        self.dx, self.dw = g @ self.w.T, self.x.T @ g


class Accumulates(Assigns):
    """Adds to what is there."""

    def __init__(self):
        super().__init__()
        self.dx, self.dw = 0.0, 0.0

    def backward(self, g):
        self.dx = self.dx + g @ self.w.T
        self.dw = self.dw + self.x.T @ g


def _two_arrays(x, w):
    return (x @ w).tanh()


def _two_arrays_vjp(primals, cotangents):
    (x, w), (g,) = primals, cotangents
    inner = g * (1 - (x @ w).tanh() ** 2)
    return inner @ w.mT, x.mT @ inner


@torch.library.custom_op("gradharness_properties::silu", mutates_args=())
def silu(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(x)


@silu.register_fake
def _(x):
    return torch.empty_like(x)


def _silu_backward(ctx, g):
    (x,) = ctx.saved_tensors
    s = torch.sigmoid(x)
    return g * s * (1 + x * (1 - s))


silu.register_autograd(_silu_backward, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs))


class Rounds(torch.autograd.Function):
    """Straight through."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, g):
        return g


class Reverses(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, strength):
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return -ctx.strength * g, None


def _reversed(x, strength):
    return -strength * x + ((1 + strength) * x).detach()


def _parameters(one):
    return {"x": one.dx, "w": one.dw}


def _det(a):
    return torch.linalg.det(a)


NORM = function(lambda x, w, b: F.layer_norm(x, x.shape[-1:], w, b), _layer_norm_backward)
SOFTMAX = function(lambda x: x.softmax(-1), lambda x, g: _softmax_backward(x.softmax(-1), g))


def _softmax_backward(y, g):
    return y * (g - (g * y).sum(-1, keepdim=True))


SUBJECTS = [
    correct("layer: softmax", SOFTMAX, {"x": "n d"}),
    correct("layer: softmax beside a reference", SOFTMAX, X, reference=lambda x: torch.softmax(x, -1)),
    correct("layer: cross entropy", function(_xent, _xent_backward), X, integers(3, below=4)),
    correct("layer: layer norm", NORM, X, (4,), (4,)),
    correct(
        "layer: layer norm beside a reference",
        NORM,
        X,
        (4,),
        (4,),
        reference=lambda x, w, b: F.layer_norm(x, x.shape[-1:], w, b),
    ),
    correct("layer: rms norm", function(_rms, _rms_backward), X, (4,)),
    correct("layer: batch norm", function(_batch_norm, _batch_norm_backward), (6, 3), (3,), (3,)),
    correct("layer: attention", function(_attention, _attention_backward), (3, 4), (5, 4), (5, 2)),
    correct("layer: convolution by unfolding", function(_conv, _conv_backward), (2, 2, 6), (3, 2, 3)),
    correct("layer: lstm cell", function(_lstm, _lstm_backward), (2, 3), (2, 2), (2, 2), (5, 8)),
    correct("layer: segment sum", function(_segment, lambda x, i, g: (g[i], None)), (5, 2), integers(5, below=3)),
    correct(
        "layer: gather",
        function(lambda x, i: x[i], lambda x, i, g: (torch.zeros_like(x).index_add(0, i, g), None)),
        (4, 2),
        integers(6, below=4),
    ),
    correct(
        "layer: mask",
        function(lambda x, m: x * m, lambda x, m, g: (g * m, None)),
        X,
        truths(3, 4),
    ),
    correct(
        "layer: embedding by one-hot",
        function(
            lambda w, i: F.one_hot(i, len(w)).to(w.dtype) @ w,
            lambda w, i, g: (F.one_hot(i, len(w)).to(w.dtype).T @ g, None),
        ),
        (4, 3),
        integers(5, below=4),
    ),
    correct("layer: log sum", function(lambda x: x.log().sum(), lambda x, g: g / x), uniform(3, 4, low=0.5, high=2)),
    correct("layer: cumulative sum", function(lambda x: x.cumsum(-1), lambda x, g: g.flip(-1).cumsum(-1).flip(-1)), X),
    correct("layer: bias", function(lambda x, b: x + b, lambda x, b, g: (g, g.sum(0))), X, (4,)),
    correct("layer: outer product", function(lambda a, b: a[:, None] * b, lambda a, b, g: (g @ b, a @ g)), (3,), (4,)),
    correct(
        "layer: product of real numbers",
        function(lambda x, y: x * y, lambda x, y, g: (g * y, g * x)),
        {"x": "n d", "y": "n d"},
        reference=lambda x, y: torch.einsum("nd,nd->nd", x, y),
    ),
    correct(
        "layer: determinant",
        function(_det, lambda a, g: g * _det(a) * torch.linalg.inv(a).mT),
        {"a": tensor("n n", kind="invertible")},
    ),
    correct("layer: custom op", silu, X),
    correct("layer: custom op beside a reference", silu, X, reference=F.silu),
    correct("layer: class that assigns", manual(Assigns, gradients=_parameters, state=("w",)), X, (4, 2)),
    correct("layer: class that accumulates", manual(Accumulates, gradients=_parameters, state=("w",)), X, (4, 2)),
    correct("layer: pair", pair(_two_arrays, _two_arrays_vjp), X, (4, 2)),
    correct("layer: straight through", Rounds, X, surrogate=True, reference=lambda x: x + (x.round() - x).detach()),
    correct("layer: gradient reversal", Reverses, X, 0.5, surrogate=True, reference=_reversed),
]
