"""Functions of PyTorch that couple elements: reductions, norms, losses, products, sorting, indexing, linear algebra."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from properties.drawing import Arg, Entry

L = torch.linalg
X = Arg()
V = Arg(shape=("m",))
PLAIN_INDEX = Arg(shape=("n",), kind="index", upper="m", active=False)


def _of(family):
    def entry(name, function, *args, reference=None, smallest=1, largest=5):
        return Entry(
            name=name,
            function=function,
            args=args or (X,),
            reference=reference,
            family=family,
            smallest=smallest,
            largest=largest,
        )

    return entry


reduction = _of("reduction")
REDUCTIONS = [
    reduction("sum", lambda x: x.sum(-1), reference=lambda x: x @ x.new_ones(x.shape[-1])),
    reduction("mean", torch.mean),
    reduction(
        "prod",
        lambda x: x.prod(-1),
        reference=lambda x: torch.stack([_product([x[i, j] for j in range(x.shape[1])]) for i in range(x.shape[0])]),
    ),
    reduction(
        "var",
        lambda x: x.var(-1),
        smallest=2,
        reference=lambda x: (x - x.mean(-1, keepdim=True)).square().sum(-1) / (x.shape[-1] - 1),
    ),
    reduction("std", lambda x: x.std(-1), smallest=2),
    reduction("std_mean", lambda x: torch.std_mean(x, -1), smallest=2),
    reduction("norm", lambda x: x.norm(dim=-1), reference=lambda x: x.square().sum(-1).sqrt()),
    reduction("norm 1", lambda x: L.vector_norm(x, 1, -1), reference=lambda x: x.abs().sum(-1)),
    reduction("norm 3", lambda x: L.vector_norm(x, 3, -1)),
    reduction("norm inf", lambda x: L.vector_norm(x, float("inf"), -1), reference=lambda x: x.abs().amax(-1)),
    reduction("norm frobenius", L.matrix_norm),
    reduction(
        "normalize",
        lambda x: F.normalize(x, dim=-1),
        reference=lambda x: x / x.norm(dim=-1, keepdim=True).clamp(min=1e-12),
        smallest=2,
    ),
    reduction("logsumexp", lambda x: x.logsumexp(-1), reference=lambda x: x.exp().sum(-1).log()),
    reduction("logcumsumexp", lambda x: x.logcumsumexp(-1)),
    reduction("amax", lambda x: x.amax(-1), reference=lambda x: x.max(-1).values),
    reduction("amin", lambda x: x.amin(-1), reference=lambda x: x.sort(-1).values[:, 0]),
    reduction("max", lambda x: x.max(-1)),
    reduction("max values", lambda x: x.max(-1).values, reference=lambda x: x.topk(1, -1).values[:, 0]),
    reduction("max all", torch.max),
    reduction("aminmax", lambda x: tuple(torch.aminmax(x, dim=-1))),
    reduction(
        "median", lambda x: x.median(-1).values, reference=lambda x: x.sort(-1).values[:, (x.shape[-1] - 1) // 2]
    ),
    reduction("quantile", lambda x: x.quantile(0.3, -1)),
    reduction("kthvalue", lambda x: x.kthvalue(1, -1).values),
    reduction("sort", lambda x: x.sort(-1).values),
    reduction(
        "topk",
        lambda x: x.topk(2, -1).values,
        smallest=2,
        reference=lambda x: x.sort(-1, descending=True).values[:, :2],
    ),
    reduction("msort", torch.msort),
    reduction("cumsum", lambda x: x.cumsum(-1), reference=lambda x: x @ x.new_ones(x.shape[1], x.shape[1]).triu()),
    reduction(
        "cumprod",
        lambda x: x.cumprod(-1),
        reference=lambda x: torch.stack([x[:, : j + 1].prod(-1) for j in range(x.shape[1])], -1),
    ),
    reduction("cummax", lambda x: x.cummax(-1).values),
    reduction("dist", lambda x, y: torch.dist(x, y), X, X, reference=lambda x, y: (x - y).square().sum().sqrt()),
    reduction("cdist", lambda x, y: torch.cdist(x, y), Arg(shape=("n", "k")), Arg(shape=("m", "k"))),
    reduction("pdist", F.pdist, Arg(shape=("n", "k")), smallest=2),
    reduction("cosine_similarity", lambda x, y: F.cosine_similarity(x, y, dim=-1), X, X, smallest=2),
]


def _product(factors):
    total = factors[0]
    for factor in factors[1:]:
        total = total * factor
    return total


def _layer_norm(x, w, b):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w + b


softmax = _of("softmax and normalisation")
SOFTMAX = [
    softmax(
        "softmax", lambda x: x.softmax(-1), reference=lambda x: x.exp() / x.exp().sum(-1, keepdim=True), smallest=2
    ),
    softmax(
        "softmax wide",
        lambda x: x.softmax(-1),
        Arg(shape=(2, 40)),
        reference=lambda x: (x - x.logsumexp(-1, keepdim=True)).exp(),
    ),
    softmax("softmin", lambda x: F.softmin(x, -1), smallest=2),
    softmax(
        "log_softmax", lambda x: x.log_softmax(-1), reference=lambda x: x - x.logsumexp(-1, keepdim=True), smallest=2
    ),
    softmax(
        "layer_norm", lambda x, w, b: F.layer_norm(x, (x.shape[-1],), w, b), X, V, V, reference=_layer_norm, smallest=2
    ),
    softmax(
        "layer_norm wide",
        lambda x, w, b: F.layer_norm(x, (x.shape[-1],), w, b),
        Arg(shape=(2, 33)),
        Arg(shape=(33,)),
        Arg(shape=(33,)),
        reference=_layer_norm,
    ),
    softmax(
        "rms_norm",
        lambda x, w: F.rms_norm(x, (x.shape[-1],), w, 1e-6),
        X,
        V,
        reference=lambda x, w: x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * w,
        smallest=2,
    ),
    softmax("group_norm", lambda x: F.group_norm(x, 2), Arg(shape=("n", 4, "m")), smallest=2),
    softmax(
        "batch_norm",
        lambda x: F.batch_norm(x, None, None, training=True),
        smallest=2,
        reference=lambda x: (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt(),
    ),
    softmax("instance_norm", F.instance_norm, Arg(shape=("n", 2, 4))),
    softmax("glu", F.glu, Arg(shape=("n", 4)), reference=lambda x: x[:, :2] * torch.sigmoid(x[:, 2:])),
]

loss = _of("losses")
TARGET = Arg(kind="prob", active=False)
LOSSES = [
    loss(
        "cross_entropy",
        F.cross_entropy,
        X,
        PLAIN_INDEX,
        reference=lambda x, t: (x.logsumexp(-1) - x.gather(1, t[:, None])[:, 0]).mean(),
    ),
    loss("cross_entropy smooth", lambda x, t: F.cross_entropy(x, t, label_smoothing=0.1), X, PLAIN_INDEX),
    loss("nll_loss", F.nll_loss, X, PLAIN_INDEX, reference=lambda x, t: -x.gather(1, t[:, None]).mean()),
    loss(
        "kl_div",
        lambda x, t: F.kl_div(x, t, reduction="sum"),
        X,
        TARGET,
        reference=lambda x, t: (t.xlogy(t) - t * x).sum(),
    ),
    loss("bce", F.binary_cross_entropy, Arg(low=0.0, high=1.0, specials=(0.5,)), TARGET),
    loss(
        "bce logits",
        F.binary_cross_entropy_with_logits,
        X,
        TARGET,
        reference=lambda x, t: (torch.logaddexp(x, torch.zeros_like(x)) - t * x).mean(),
    ),
    loss("poisson_nll", F.poisson_nll_loss, X, TARGET),
    loss("gaussian_nll", lambda x, v: F.gaussian_nll_loss(x, torch.zeros_like(x), v), X, Arg(low=0.1)),
    loss(
        "soft_margin",
        lambda x: F.soft_margin_loss(x, torch.ones_like(x)),
        reference=lambda x: torch.logaddexp(-x, torch.zeros_like(x)).mean(),
    ),
    loss("multi_margin", F.multi_margin_loss, Arg(specials=(1.0, 0.0)), PLAIN_INDEX),
    loss(
        "hinge_embedding",
        lambda x: F.hinge_embedding_loss(x, -torch.ones_like(x)),
        Arg(specials=(1.0,)),
        reference=lambda x: torch.relu(1 - x).mean(),
    ),
    loss("triplet", F.triplet_margin_loss, X, X, X),
    loss("cosine_embedding", lambda x, y: F.cosine_embedding_loss(x, y, x.new_ones(x.shape[0])), X, X, smallest=2),
]

product = _of("products")
PRODUCTS = [
    product(
        "matmul",
        torch.matmul,
        Arg(shape=("n", "k")),
        Arg(shape=("k", "m")),
        reference=lambda a, b: (a[:, :, None] * b[None]).sum(1),
    ),
    product("bmm", torch.bmm, Arg(shape=(2, "n", "k")), Arg(shape=(2, "k", "m"))),
    product("linear", F.linear, Arg(shape=("n", "k")), Arg(shape=("m", "k")), V, reference=lambda x, w, b: x @ w.T + b),
    product("outer", torch.outer, Arg(shape=("n",)), V, reference=lambda a, b: a[:, None] * b),
    product(
        "einsum",
        lambda a, b: torch.einsum("ij,kj->ik", a, b),
        Arg(shape=("n", "k")),
        Arg(shape=("m", "k")),
        reference=lambda a, b: a @ b.T,
    ),
    product("cross", lambda a, b: L.cross(a, b), Arg(shape=("n", 3)), Arg(shape=("n", 3))),
    product("kron", torch.kron, Arg(shape=("n", 2)), Arg(shape=(2, "m"))),
    product("bilinear", F.bilinear, Arg(shape=("n", 2)), Arg(shape=("n", 3)), Arg(shape=(2, 2, 3))),
    product(
        "attention",
        F.scaled_dot_product_attention,
        *[Arg(shape=(1, "n", "k"))] * 3,
        reference=lambda q, k, v: (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v,
    ),
    product("complex mul", torch.mul, Arg(kind="complex"), Arg(kind="complex")),
    product("complex abs", torch.abs, Arg(kind="complex"), reference=lambda z: (z.real**2 + z.imag**2).sqrt()),
    product("complex matmul", torch.matmul, Arg(shape=("n", "k"), kind="complex"), Arg(shape=("k",), kind="complex")),
    product("rfft", lambda x: torch.fft.rfft(x)),
    product("irfft", lambda x: torch.fft.irfft(x, n=6), Arg(shape=("n", 4), kind="complex")),
]

conv = _of("convolution, pooling, interpolation")
IMAGE = Arg(shape=(1, 2, 4, 5))
CONVOLUTIONS = [
    conv(
        "conv1d",
        lambda x, w: F.conv1d(x, w, padding=1),
        Arg(shape=(2, 2, 5)),
        Arg(shape=(3, 2, 3)),
        reference=lambda x, w: torch.einsum("bclk,ock->bol", F.pad(x, (1, 1)).unfold(2, 3, 1), w),
    ),
    conv("conv2d", lambda x, w: F.conv2d(x, w, stride=2), IMAGE, Arg(shape=(2, 2, 2, 2))),
    conv("conv_transpose1d", F.conv_transpose1d, Arg(shape=(2, 2, 4)), Arg(shape=(2, 2, 3))),
    conv(
        "max_pool1d", lambda x: F.max_pool1d(x, 2), Arg(shape=(1, 2, 6)), reference=lambda x: x.unfold(2, 2, 2).amax(-1)
    ),
    conv("max_pool2d", lambda x: F.max_pool2d(x, 2, stride=1), IMAGE),
    conv("adaptive_max_pool2d", lambda x: F.adaptive_max_pool2d(x, 2), IMAGE),
    conv(
        "avg_pool1d", lambda x: F.avg_pool1d(x, 2), Arg(shape=(1, 2, 6)), reference=lambda x: x.unfold(2, 2, 2).mean(-1)
    ),
    conv("avg_pool2d", lambda x: F.avg_pool2d(x, 2, padding=1), IMAGE),
    conv("lp_pool1d", lambda x: F.lp_pool1d(x, 2, 2), Arg(shape=(1, 2, 6), low=0)),
    conv("bilinear up", lambda x: F.interpolate(x, size=(5, 7), mode="bilinear"), IMAGE),
    conv("bicubic", lambda x: F.interpolate(x, size=(3, 6), mode="bicubic"), IMAGE),
    conv("nearest", lambda x: F.interpolate(x, scale_factor=2), IMAGE),
    conv(
        "grid_sample",
        lambda x, grid: F.grid_sample(x, grid, align_corners=False),
        IMAGE,
        Arg(shape=(1, 2, 3, 2), low=-1.0, high=1.0, specials=(-0.5, 0.0, 0.5)),
    ),
    conv("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), Arg(shape=(1, 4, 2, 2))),
    conv("pad reflect", lambda x: F.pad(x, (1, 2), mode="reflect"), Arg(shape=(2, 2, 4))),
    conv("unfold", lambda x: F.unfold(x, 2), IMAGE),
]

index = _of("indexing and masks")
ROWS = Arg(shape=("k", "m"), kind="index", upper="n", active=False)
MASK = Arg(kind="mask", active=False)
INDEXING = [
    index("gather", lambda x, i: x.gather(0, i), X, ROWS),
    # Every place is written once: with two writers, which one wins is not defined.
    index(
        "scatter",
        lambda x, s: x.scatter(0, torch.stack([torch.arange(x.shape[0]).roll(j) for j in range(x.shape[1])], 1), s),
        X,
        X,
    ),
    index("scatter_add", lambda x, i, s: x.scatter_add(0, i, s), X, ROWS, Arg(shape=("k", "m"))),
    index("scatter_amax", lambda x, i, s: x.scatter_reduce(0, i, s, "amax"), X, ROWS, Arg(shape=("k", "m"))),
    index(
        "scatter_amax alone",
        lambda i, s: s.new_zeros(5, s.shape[1]).scatter_reduce(0, i, s, "amax", include_self=False),
        ROWS,
        Arg(shape=("k", "m")),
    ),
    index("scatter_mean", lambda x, i, s: x.scatter_reduce(0, i, s, "mean"), X, ROWS, Arg(shape=("k", "m"))),
    index("index_add", lambda x, i, s: x.index_add(1, i, s), X, PLAIN_INDEX, Arg(shape=("n", "n"))),
    index("index_select", lambda x, i: x.index_select(1, i), X, PLAIN_INDEX, reference=lambda x, i: x[:, i]),
    index("embedding", lambda i, w: F.embedding(i, w), PLAIN_INDEX, Arg(shape=("m", "d"))),
    index("take_along_dim", lambda x, i: x.take_along_dim(i, 0), X, ROWS),
    index("masked_fill", lambda x, m: x.masked_fill(m, -1.0), X, MASK, reference=lambda x, m: torch.where(m, -1.0, x)),
    index("where mask", lambda x, y, m: torch.where(m, x, y), X, X, MASK),
    index("masked softmax", lambda x, m: x.masked_fill(m, -1e9).softmax(-1), X, MASK),
    index("tril", torch.tril),
    index("roll", lambda x: x.roll(1, -1)),
    index("flip", lambda x: x.flip(0), reference=lambda x: x[torch.arange(x.shape[0] - 1, -1, -1)]),
    index("repeat", lambda x: x.repeat(2, 2)),
    index("diff", lambda x: x.diff(dim=-1), smallest=2, reference=lambda x: x[:, 1:] - x[:, :-1]),
    index("cat", lambda x, y: torch.cat([x, y], 1), X, Arg(shape=("n", "k"))),
]

linear_algebra = _of("linear algebra")
SQUARE = Arg(shape=("n", "n"), kind="square")
SPD = Arg(shape=("n", "n"), kind="spd")
SYMMETRIC = Arg(shape=("n", "n"), kind="symmetric")
LINALG = [
    linear_algebra("det", L.det, SQUARE, reference=lambda a: _cofactors(a)),
    linear_algebra("slogdet", lambda a: L.slogdet(a).logabsdet, SQUARE),
    linear_algebra("logdet", torch.logdet, SPD, reference=lambda a: 2 * L.cholesky(a).diagonal().log().sum()),
    linear_algebra("inverse", L.inv, SQUARE, reference=lambda a: L.solve(a, torch.eye(a.shape[0], dtype=a.dtype))),
    linear_algebra("solve", L.solve, SQUARE, Arg(shape=("n", "m")), reference=lambda a, b: L.inv(a) @ b),
    linear_algebra("cholesky", lambda a: L.cholesky((a + a.mT) / 2), SPD),
    linear_algebra("eigvalsh", lambda a: L.eigvalsh((a + a.mT) / 2), SYMMETRIC),
    linear_algebra("eigh projector", lambda a: _projector(a), SYMMETRIC),
    linear_algebra("svdvals", L.svdvals, SQUARE),
    linear_algebra("nuclear norm", lambda a: L.matrix_norm(a, "nuc"), SQUARE, reference=lambda a: L.svdvals(a).sum()),
    linear_algebra("spectral norm", lambda a: L.matrix_norm(a, 2), SQUARE),
    linear_algebra("qr", lambda a: L.qr(a).R, SQUARE),
    linear_algebra("matrix_exp", torch.matrix_exp, SQUARE),
    linear_algebra("matrix_power", lambda a: L.matrix_power(a, 3), SQUARE, reference=lambda a: a @ a @ a),
    linear_algebra("pinv", L.pinv, SQUARE),
    linear_algebra(
        "triangular solve",
        lambda a, b: L.solve_triangular(a.tril(-1) + torch.eye(a.shape[0], dtype=a.dtype), b, upper=False),
        SQUARE,
        Arg(shape=("n", "m")),
    ),
    linear_algebra("trace", torch.trace, SQUARE, reference=lambda a: a.diagonal().sum()),
    linear_algebra("multi_dot", lambda a, b: L.multi_dot([a, b, a]), SQUARE, SQUARE, reference=lambda a, b: a @ b @ a),
]


def _cofactors(a):
    if a.shape[0] == 1:
        return a[0, 0]
    keep = [[j for j in range(a.shape[0]) if j != i] for i in range(a.shape[0])]
    return sum((-1) ** i * a[0, i] * _cofactors(a[1:, columns]) for i, columns in enumerate(keep))


def _projector(a):
    vectors = L.eigh((a + a.mT) / 2).eigenvectors
    return vectors[:, :1] @ vectors[:, :1].mT


ENTRIES = [*REDUCTIONS, *SOFTMAX, *LOSSES, *PRODUCTS, *CONVOLUTIONS, *INDEXING, *LINALG]
