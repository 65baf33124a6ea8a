"""Right layers: forwards as plain torch, which serve as references too, and their backwards by hand."""

from __future__ import annotations

import torch
import torch.nn.functional as F

EPS = 1e-5


def linear(x, w, b):
    return x @ w.mT + b


def linear_backward(x, w, b, g):
    return g @ w, g.mT @ x, g.sum(0)


def _hat(x, dims):
    d = x - x.mean(dims, keepdim=True)
    r = (d.square().mean(dims, keepdim=True) + EPS).rsqrt()
    return d * r, r


def _normed(x, gh, dims):
    """The gradient of what is standardised along these axes."""
    hat, r = _hat(x, dims)
    return r * (gh - gh.mean(dims, keepdim=True) - hat * (gh * hat).mean(dims, keepdim=True))


def layer_norm(x, w, b):
    return _hat(x, (-1,))[0] * w + b


def layer_norm_backward(x, w, b, g):
    hat, _ = _hat(x, (-1,))
    return _normed(x, g * w, (-1,)), (g * hat).sum(0), g.sum(0)


def batch_norm(x, w, b):
    return _hat(x, (0,))[0] * w + b


def batch_norm_backward(x, w, b, g):
    hat, _ = _hat(x, (0,))
    return _normed(x, g * w, (0,)), (g * hat).sum(0), g.sum(0)


def channel_norm(x, w, b):
    """Batch norm of sequences: statistics over batch and time."""
    return _hat(x, (0, 2))[0] * w[:, None] + b[:, None]


def channel_norm_backward(x, w, b, g):
    hat, _ = _hat(x, (0, 2))
    return _normed(x, g * w[:, None], (0, 2)), (g * hat).sum((0, 2)), g.sum((0, 2))


def group_norm(x, w, b):
    n, c, steps = x.shape
    hat = _hat(x.reshape(n, 2, c // 2, steps), (2, 3))[0].reshape(n, c, steps)
    return hat * w[:, None] + b[:, None]


def group_norm_backward(x, w, b, g):
    n, c, steps = x.shape
    grouped = x.reshape(n, 2, c // 2, steps)
    hat = _hat(grouped, (2, 3))[0].reshape(n, c, steps)
    gx = _normed(grouped, (g * w[:, None]).reshape(grouped.shape), (2, 3)).reshape(n, c, steps)
    return gx, (g * hat).sum((0, 2)), g.sum((0, 2))


def rms_norm(x, w):
    return x * (x.square().mean(-1, keepdim=True) + EPS).rsqrt() * w


def rms_norm_backward(x, w, g):
    r = (x.square().mean(-1, keepdim=True) + EPS).rsqrt()
    gh = g * w
    return r * gh - r**3 * x * (gh * x).mean(-1, keepdim=True), (g * x * r).sum(0)


def normalize(x):
    return x / (x.square().sum(-1, keepdim=True) + EPS).sqrt()


def normalize_backward(x, g):
    size = (x.square().sum(-1, keepdim=True) + EPS).sqrt()
    y = x / size
    return (g - y * (g * y).sum(-1, keepdim=True)) / size


def weight_norm(v, gain):
    return gain[:, None] * v / (v.square().sum(1, keepdim=True) + EPS).sqrt()


def weight_norm_backward(v, gain, g):
    size = (v.square().sum(1, keepdim=True) + EPS).sqrt()
    unit = v / size
    inner = (g * unit).sum(1, keepdim=True)
    return gain[:, None] * (g - unit * inner) / size, inner[:, 0]


def softmax(x):
    return x.softmax(-1)


def softmax_backward(x, g):
    y = x.softmax(-1)
    return y * (g - (g * y).sum(-1, keepdim=True))


def softmax_along(x, dim):
    return x.softmax(dim)


def softmax_along_backward(x, dim, g):
    y = x.softmax(dim)
    return y * (g - (g * y).sum(dim, keepdim=True))


def log_softmax(x):
    return x.log_softmax(-1)


def log_softmax_backward(x, g):
    return g - x.softmax(-1) * g.sum(-1, keepdim=True)


def attention(q, k, v):
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v


def attention_backward(q, k, v, g):
    scale = q.shape[-1] ** -0.5
    p = (q @ k.mT * scale).softmax(-1)
    gp = g @ v.mT
    gs = p * (gp - (gp * p).sum(-1, keepdim=True)) * scale
    return gs @ k, gs.mT @ q, p.mT @ g


def conv1d(x, w, b):
    return F.conv1d(x, w, b)


def conv1d_backward(x, w, b, g):
    k = w.shape[2]
    gx = torch.einsum("bolk,ock->bcl", F.pad(g, (k - 1, k - 1)).unfold(2, k, 1), w.flip(2))
    return gx, torch.einsum("bclk,bol->ock", x.unfold(2, k, 1), g), g.sum((0, 2))


def rnn_cell(x, h, u, w):
    return torch.tanh(x @ u + h @ w)


def rnn_cell_backward(x, h, u, w, g):
    gz = g * (1 - torch.tanh(x @ u + h @ w).square())
    return gz @ u.mT, gz @ w.mT, x.mT @ gz, h.mT @ gz


def gru_cell(x, h, wz, wr, wn):
    """Gates of the concatenated input and state, without biases."""
    xh = torch.cat([x, h], 1)
    z, r = (xh @ wz).sigmoid(), (xh @ wr).sigmoid()
    return z * h + (1 - z) * (torch.cat([x, r * h], 1) @ wn).tanh()


def gru_cell_backward(x, h, wz, wr, wn, g):
    d = x.shape[1]
    xh = torch.cat([x, h], 1)
    z, r = (xh @ wz).sigmoid(), (xh @ wr).sigmoid()
    xrh = torch.cat([x, r * h], 1)
    n = (xrh @ wn).tanh()
    ga_n = g * (1 - z) * (1 - n * n)
    gxrh = ga_n @ wn.mT
    grh = gxrh[:, d:]
    ga_z, ga_r = g * (h - n) * z * (1 - z), grh * h * r * (1 - r)
    gxh = ga_z @ wz.mT + ga_r @ wr.mT
    gh = gxh[:, d:] + g * z + grh * r
    return gxh[:, :d] + gxrh[:, :d], gh, xh.mT @ ga_z, xh.mT @ ga_r, xrh.mT @ ga_n


def lstm_cell(a, c):
    """From the gates' activations and the cell's state: the new hidden state and the new cell state."""
    i, f, o, u = a.chunk(4, 1)
    new = f.sigmoid() * c + i.sigmoid() * u.tanh()
    return o.sigmoid() * new.tanh(), new


def lstm_cell_backward(a, c, gh, gc):
    i, f, o, u = a.chunk(4, 1)
    i, f, o, u = i.sigmoid(), f.sigmoid(), o.sigmoid(), u.tanh()
    t = (f * c + i * u).tanh()
    gnew = gc + gh * o * (1 - t * t)
    gates = (gnew * u * i * (1 - i), gnew * c * f * (1 - f), gh * t * o * (1 - o), gnew * i * (1 - u * u))
    return torch.cat(gates, 1), gnew * f


def rotary(x, cos, sin):
    """The halves of the last axis are turned against each other."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def rotary_backward(x, cos, sin, g):
    a, b = x.chunk(2, -1)
    ga, gb = g.chunk(2, -1)
    gx = torch.cat([ga * cos + gb * sin, gb * cos - ga * sin], -1)
    return gx, ga * a + gb * b, gb * a - ga * b
