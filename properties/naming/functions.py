"""Right functions of tensors and losses: forwards as plain torch, and their backwards by hand."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def mse(pred, target):
    return (pred - target).square().mean()


def mse_backward(pred, target, g):
    d = 2 * (pred - target) / pred.numel() * g
    return d, -d


def huber(pred, target):
    d = (pred - target).abs()
    return torch.where(d < 0.8, 0.5 * d * d, 0.8 * (d - 0.4)).sum()


def huber_backward(pred, target, g):
    d = g * (pred - target).clamp(-0.8, 0.8)
    return d, -d


def cross_entropy(logits, target):
    return F.cross_entropy(logits, target)


def cross_entropy_backward(logits, target, g):
    hot = F.one_hot(target, logits.shape[1]).to(logits)
    return g * (logits.softmax(1) - hot) / len(logits)


def nll_ignoring(logits, target):
    """Sum over the rows whose target is not -1."""
    kept = target >= 0
    picked = logits.log_softmax(1).gather(1, target.clamp(min=0)[:, None])[:, 0]
    return -(picked * kept).sum()


def nll_ignoring_backward(logits, target, g):
    hot = F.one_hot(target.clamp(min=0), logits.shape[1]).to(logits)
    return g * (logits.softmax(1) - hot) * (target >= 0)[:, None]


def bce_logits(logits, y):
    return (F.softplus(logits) - y * logits).mean()


def bce_logits_backward(logits, y, g):
    return g * (logits.sigmoid() - y) / logits.numel(), -g * logits / logits.numel()


def hinge(scores, sign):
    return (1 - sign * scores).clamp(min=0).sum()


def hinge_backward(scores, sign, g):
    inside = (sign * scores < 1).to(scores)
    return -g * sign * inside, -g * scores * inside


def gaussian_kl(mu, logvar):
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum()


def gaussian_kl_backward(mu, logvar, g):
    return g * mu, g * 0.5 * (logvar.exp() - 1)


def cosine(a, b):
    return (a * b).sum(-1) / ((a.square().sum(-1) + 1e-3) * (b.square().sum(-1) + 1e-3)).sqrt()


def cosine_backward(a, b, g):
    na, nb = (a.square().sum(-1, keepdim=True) + 1e-3).sqrt(), (b.square().sum(-1, keepdim=True) + 1e-3).sqrt()
    g, ua, ub = g[..., None], a / na, b / nb
    c = (ua * ub).sum(-1, keepdim=True)
    return g * (ub - c * ua) / na, g * (ua - c * ub) / nb


def silu(x):
    return x * x.sigmoid()


def silu_backward(x, g):
    s = x.sigmoid()
    return g * s * (1 + x * (1 - s))


def swiglu(gate, up):
    return gate * gate.sigmoid() * up


def swiglu_backward(gate, up, g):
    return silu_backward(gate, g * up), g * gate * gate.sigmoid()


def gelu(x):
    return x * (1 + (x / 2**0.5).erf()) / 2


def gelu_backward(x, g):
    return g * ((1 + (x / 2**0.5).erf()) / 2 + x * (-x * x / 2).exp() / (2 * torch.pi) ** 0.5)


def softplus(x):
    return F.softplus(x)


def softplus_backward(x, g):
    return g * x.sigmoid()


def elu(x):
    return F.elu(x, alpha=0.7)


def elu_backward(x, g):
    return g * torch.where(x > 0, 1.0, 0.7 * x.clamp(max=0).exp())


def leaky_relu(x):
    return torch.where(x > 0, x, 0.2 * x)


def leaky_relu_backward(x, g):
    return g * torch.where(x > 0, 1.0, 0.2).to(x)


def hardtanh(x):
    return x.clamp(-1.5, 1.5)


def hardtanh_backward(x, g):
    return g * (x.abs() < 1.5)


def tanh(x):
    return torch.tanh(x)


def tanh_backward(x, g):
    return g * (1 - torch.tanh(x).square())


def product(x, y):
    return x * y


def product_backward(x, y, g):
    return g * y.conj(), g * x.conj()


def quotient(a, b):
    return a / b


def quotient_backward(a, b, g):
    return g / b, -g * a / (b * b)


def difference(a, b):
    return a - b


def difference_backward(a, b, g):
    return g, -g


def lerp(a, b, t):
    return a + t * (b - a)


def lerp_backward(a, b, t, g):
    return g * (1 - t), g * t, g * (b - a)


def matmul(a, b):
    return a @ b


def matmul_backward(a, b, g):
    return g @ b.mH, a.mH @ g


def bilinear(x, w, y):
    return torch.einsum("ni,kij,nj->nk", x, w, y)


def bilinear_backward(x, w, y, g):
    x, w, y = x.conj(), w.conj(), y.conj()
    gx = torch.einsum("nk,kij,nj->ni", g, w, y)
    return gx, torch.einsum("nk,ni,nj->kij", g, x, y), torch.einsum("nk,kij,ni->nj", g, w, x)


def variance(x):
    return x.var(-1)


def variance_backward(x, g):
    return g[..., None] * 2 * (x - x.mean(-1, keepdim=True)) / (x.shape[-1] - 1)


def deviation(x):
    return x - x.mean(-1, keepdim=True)


def deviation_backward(x, g):
    return g - g.mean(-1, keepdim=True)


def cumsum(x):
    return x.cumsum(1)


def cumsum_backward(x, g):
    return g.flip(1).cumsum(1).flip(1)


def masked_mean(x, keep):
    kept = keep.to(x)
    return (x * kept).sum(1) / kept.sum(1).clamp(min=1)


def masked_mean_backward(x, keep, g):
    kept = keep.to(x)
    return (g / kept.sum(1).clamp(min=1))[:, None] * kept


def embedding(table, index):
    return table[index]


def embedding_backward(table, index, g):
    return torch.zeros_like(table).index_add(0, index, g)


def gather(x, index):
    return x.gather(1, index)


def gather_backward(x, index, g):
    return torch.zeros_like(x).scatter_add(1, index, g)


def segment_mean(x, segment):
    """Of the rows of each of three segments."""
    count = torch.bincount(segment, minlength=3).clamp(min=1).to(x)
    return torch.zeros(3, x.shape[1], dtype=x.dtype).index_add(0, segment, x) / count[:, None]


def segment_mean_backward(x, segment, g):
    count = torch.bincount(segment, minlength=3).clamp(min=1).to(x)
    return (g / count[:, None])[segment]


def avg_pool(x, k):
    return x.unfold(-1, k, 1).mean(-1)


def avg_pool_backward(x, k, g):
    return F.pad(g, (k - 1, k - 1)).unfold(-1, k, 1).sum(-1) / k
