"""Backwards written by hand, and right: with the conventions that people choose at kinks and ties."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.autograd import Function

from properties.drawing import Arg, Entry

X = Arg()


def _function(name, forward, backward):
    """A Function that saves its inputs and its output; ``backward(grad, output, *inputs)`` gives the gradients."""

    def run(ctx, *inputs):
        output = forward(*inputs)
        ctx.save_for_backward(output, *inputs)
        return output

    def back(ctx, grad):
        output, *inputs = ctx.saved_tensors
        return backward(grad, output, *inputs)

    return type(name, (Function,), {"forward": staticmethod(run), "backward": staticmethod(back)})


def _entry(name, forward, backward, *args, reference=None, smallest=1):
    made = _function(name, forward, backward)
    return Entry(
        name=f"hand: {name}",
        function=made.apply,
        args=args or (X,),
        reference=reference,
        family="hand-written",
        handwritten=True,
        smallest=smallest,
    )


def _even_split(grad, output, x):
    tied = (x == output[..., None]).to(x.dtype)
    return grad[..., None] * tied / tied.sum(-1, keepdim=True)


def _first_index(grad, output, x):
    chosen = x.argmax(-1, keepdim=True)
    return torch.zeros_like(x).scatter(-1, chosen, grad[..., None])


def _softmax_from_output(grad, y, x):
    return y * (grad - (grad * y).sum(-1, keepdim=True))


def _log_softmax_from_output(grad, y, x):
    return grad - y.exp() * grad.sum(-1, keepdim=True)


def _layer_norm(x, w, b):
    mean = x.mean(-1, keepdim=True)
    variance = (x - mean).square().mean(-1, keepdim=True)
    return (x - mean) * (variance + 1e-5).rsqrt() * w + b


def _layer_norm_backward(grad, y, x, w, b):
    mean = x.mean(-1, keepdim=True)
    rstd = ((x - mean).square().mean(-1, keepdim=True) + 1e-5).rsqrt()
    xhat = (x - mean) * rstd
    g = grad * w
    dx = rstd * (g - g.mean(-1, keepdim=True) - xhat * (g * xhat).mean(-1, keepdim=True))
    return dx, (grad * xhat).sum(0), grad.sum(0)


def _rms_norm_backward(grad, y, x, w):
    rstd = (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    g = grad * w
    return rstd * (g - x * rstd * rstd * (g * x).mean(-1, keepdim=True)), (grad * x * rstd).sum(0)


def _norm_backward(grad, y, x):
    safe = torch.where(y > 0, y, 1.0)
    return torch.where(y > 0, grad / safe, 0.0)[..., None] * x


def _sort_backward(grad, y, x):
    return torch.zeros_like(x).scatter(-1, x.argsort(dim=-1, stable=True), grad)


def _cross_entropy_backward(grad, y, x, t):
    return grad * (x.softmax(-1) - F.one_hot(t, x.shape[-1])) / x.shape[0], None


def _cosine_backward(grad, y, a, b):
    na, nb = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    g, c = grad[..., None], y[..., None]
    return g * (b / (na * nb) - c * a / na**2), g * (a / (na * nb) - c * b / nb**2)


INDEX = Arg(shape=("k", "m"), kind="index", upper="n", active=False)
LABELS = Arg(shape=("n",), kind="index", upper="m", active=False)
W, B = Arg(shape=("m",)), Arg(shape=("m",))

ENTRIES = [
    _entry("relu, 0 at 0", torch.relu, lambda g, y, x: g * (x > 0), reference=F.relu),
    _entry("relu, 1 at 0", torch.relu, lambda g, y, x: g * (x >= 0), reference=F.relu),
    _entry(
        "relu, a half at 0", torch.relu, lambda g, y, x: g * torch.heaviside(x, x.new_tensor(0.5)), reference=F.relu
    ),
    _entry(
        "leaky relu",
        lambda x: torch.where(x > 0, x, 0.1 * x),
        lambda g, y, x: g * torch.where(x > 0, 1.0, 0.1),
        reference=lambda x: F.leaky_relu(x, 0.1),
    ),
    _entry("abs", torch.abs, lambda g, y, x: g * x.sign(), reference=torch.abs),
    _entry("abs, 1 at 0", torch.abs, lambda g, y, x: torch.where(x >= 0, g, -g), reference=torch.abs),
    _entry(
        "clamp, closed",
        lambda x: x.clamp(-1, 0.5),
        lambda g, y, x: g * ((x >= -1) & (x <= 0.5)),
        Arg(specials=(-1.0, 0.5)),
        reference=lambda x: x.clamp(-1, 0.5),
    ),
    _entry(
        "clamp, open",
        lambda x: x.clamp(-1, 0.5),
        lambda g, y, x: g * ((x > -1) & (x < 0.5)),
        Arg(specials=(-1.0, 0.5)),
        reference=lambda x: x.clamp(-1, 0.5),
    ),
    _entry("max, even split", lambda x: x.amax(-1), _even_split, reference=lambda x: x.max(-1).values),
    _entry("max, first index", lambda x: x.amax(-1), _first_index, reference=lambda x: x.amax(-1)),
    _entry("sort", lambda x: x.sort(dim=-1, stable=True).values, _sort_backward, reference=lambda x: x.sort(-1).values),
    _entry(
        "softmax",
        lambda x: x.softmax(-1),
        _softmax_from_output,
        reference=lambda x: x.exp() / x.exp().sum(-1, keepdim=True),
    ),
    _entry(
        "log_softmax",
        lambda x: x.log_softmax(-1),
        _log_softmax_from_output,
        reference=lambda x: x - x.logsumexp(-1, keepdim=True),
    ),
    _entry(
        "logsumexp",
        lambda x: x.logsumexp(-1),
        lambda g, y, x: g[..., None] * (x - y[..., None]).exp(),
        reference=lambda x: x.exp().sum(-1).log(),
    ),
    _entry(
        "layer_norm",
        _layer_norm,
        _layer_norm_backward,
        X,
        W,
        B,
        reference=lambda x, w, b: F.layer_norm(x, (x.shape[-1],), w, b),
    ),
    _entry(
        "rms_norm",
        lambda x, w: x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * w,
        _rms_norm_backward,
        X,
        W,
        reference=lambda x, w: F.rms_norm(x, (x.shape[-1],), w, 1e-6),
    ),
    _entry("norm, 0 at 0", lambda x: x.norm(dim=-1), _norm_backward, reference=lambda x: x.square().sum(-1).sqrt()),
    _entry(
        "cumsum",
        lambda x: x.cumsum(-1),
        lambda g, y, x: g.flip(-1).cumsum(-1).flip(-1),
        reference=lambda x: x @ x.new_ones(x.shape[1], x.shape[1]).triu(),
    ),
    _entry(
        "matmul",
        torch.matmul,
        lambda g, y, a, b: (g @ b.mT, a.mT @ g),
        Arg(shape=("n", "k")),
        Arg(shape=("k", "m")),
        reference=lambda a, b: (a[:, :, None] * b).sum(1),
    ),
    _entry(
        "gather",
        lambda x, i: x.gather(0, i),
        lambda g, y, x, i: (torch.zeros_like(x).scatter_add(0, i, g), None),
        X,
        INDEX,
        reference=lambda x, i: x.take_along_dim(i, 0),
    ),
    _entry(
        "scatter_add",
        lambda x, i, s: x.scatter_add(0, i, s),
        lambda g, y, x, i, s: (g, None, g.gather(0, i)),
        X,
        INDEX,
        Arg(shape=("k", "m")),
        reference=lambda x, i, s: x + (F.one_hot(i, x.shape[0]).to(s.dtype).permute(2, 0, 1) * s).sum(1),
    ),
    _entry("sigmoid", torch.sigmoid, lambda g, y, x: g * y * (1 - y), reference=lambda x: 1 / (1 + (-x).exp())),
    _entry(
        "tanh",
        torch.tanh,
        lambda g, y, x: g * (1 - y * y),
        reference=lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()),
    ),
    _entry("silu", F.silu, lambda g, y, x: g * torch.sigmoid(x) * (1 + x * (1 - torch.sigmoid(x))), reference=F.silu),
    _entry(
        "softplus",
        lambda x: torch.logaddexp(x, torch.zeros_like(x)),
        lambda g, y, x: g * torch.sigmoid(x),
        reference=F.softplus,
    ),
    _entry("exp", torch.exp, lambda g, y, x: g * y, reference=lambda x: x.exp()),
    _entry("sqrt", torch.sqrt, lambda g, y, x: g / (2 * y), Arg(low=0), reference=lambda x: x**0.5),
    _entry(
        "variance",
        lambda x: x.var(-1, correction=0),
        lambda g, y, x: 2 * g[..., None] * (x - x.mean(-1, keepdim=True)) / x.shape[-1],
        reference=lambda x: (x - x.mean(-1, keepdim=True)).square().mean(-1),
    ),
    # Without its conjugates it would be right for real numbers alone; beside a reference that takes complex ones,
    # nothing tells that from a fault. "layer: product of real numbers" says so in its specs.
    _entry(
        "product",
        lambda a, b: a * b,
        lambda g, y, a, b: (g * b.conj(), g * a.conj()),
        X,
        X,
        reference=lambda a, b: torch.einsum("ij,ij->ij", a, b),
    ),
    _entry(
        "cross_entropy",
        F.cross_entropy,
        _cross_entropy_backward,
        X,
        LABELS,
        reference=lambda x, t: (x.logsumexp(-1) - x.gather(1, t[:, None])[:, 0]).mean(),
    ),
    _entry(
        "cosine",
        lambda a, b: (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1)),
        _cosine_backward,
        X,
        X,
        reference=lambda a, b: (a * b).sum(-1) / (a.square().sum(-1) * b.square().sum(-1)).sqrt(),
    ),
]
