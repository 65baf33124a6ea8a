"""Differentiable functions of PyTorch, whose gradients are right: the catalogue's, and those that it leaves out."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from gradharness import index
from properties import catalogue_elementwise, catalogue_tensor
from properties.subjects import correct, fixed, integers, normal, of_entry, spd, truths, uniform

L = torch.linalg
S = torch.special
fft = torch.fft
X = (3, 4)
Z = normal(3, 4, dtype=torch.complex128)
IMAGE = (2, 2, 4, 4)


def _seeded(make):
    """A module whose weights are the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().double()


FOURIER = [
    correct("fft", lambda x: fft.fft(x), X),
    correct("fft of complex", lambda x: fft.fft(x), Z),
    correct("ifft", lambda x: fft.ifft(x), Z),
    correct("fft orthonormal", lambda x: fft.fft(x, norm="ortho"), Z),
    correct("fft padded", lambda x: fft.fft(x, n=7), Z),
    correct("fft2", lambda x: fft.fft2(x), Z),
    correct("ifft2", lambda x: fft.ifft2(x), Z),
    correct("fftn", lambda x: fft.fftn(x), X),
    correct("rfft2", lambda x: fft.rfft2(x), X),
    correct("irfft2", lambda x: fft.irfft2(x, s=(3, 6)), Z),
    correct("hfft", lambda x: fft.hfft(x, n=6), Z),
    correct("ihfft", lambda x: fft.ihfft(x), X),
    correct("fftshift", lambda x: fft.fftshift(x), X),
    correct("ifftshift", lambda x: fft.ifftshift(x), X),
    correct("power spectrum", lambda x: torch.view_as_real(fft.rfft(x)).square().sum(-1), X),
    correct("convolution by fft", lambda x, y: fft.irfft(fft.rfft(x, n=8) * fft.rfft(y, n=8), n=8), X, X),
    correct(
        "stft",
        lambda x: torch.stft(x, 4, window=torch.ones(4, dtype=x.dtype), return_complex=True),
        (16,),
    ),
]

COMPLEX = [
    correct("conj", lambda z: z.conj() * 2, Z),
    correct("real", lambda z: z.real * 1, Z),
    correct("imag", lambda z: z.imag * 1, Z),
    correct("angle", torch.angle, Z),
    correct("polar", torch.polar, uniform(3, 4, low=0.5, high=2), X),
    correct("complex", torch.complex, X, X),
    correct("view_as_real", torch.view_as_real, Z),
    correct("view_as_complex", torch.view_as_complex, (3, 2)),
    correct("complex exp", torch.exp, Z),
    correct("complex reciprocal", lambda z: 1 / z, Z),
    correct("complex tanh", torch.tanh, Z),
    correct("complex sgn", torch.sgn, Z),
    correct("complex power", lambda z: z**3, Z),
    correct("complex norm", lambda z: z.norm(), Z),
    correct("vdot", torch.vdot, normal(4, dtype=torch.complex128), normal(4, dtype=torch.complex128)),
]

MATRICES = [
    correct("addmm", torch.addmm, (3, 2), (3, 4), (4, 2)),
    correct("addmv", torch.addmv, (3,), (3, 4), (4,)),
    correct("addr", torch.addr, (3, 4), (3,), (4,)),
    correct("baddbmm", torch.baddbmm, (2, 3, 2), (2, 3, 4), (2, 4, 2)),
    correct("mv", torch.mv, (3, 4), (4,)),
    correct("dot", torch.dot, (4,), (4,)),
    correct("tensordot", lambda a, b: torch.tensordot(a, b, dims=1), (3, 4), (4, 2)),
    correct("chain_matmul", lambda a, b, c: L.multi_dot([a, b, c]), (2, 3), (3, 4), (4, 2)),
    correct("vecdot", L.vecdot, X, X),
    correct("vander", L.vander, (4,)),
    correct("cholesky solve", lambda b, a: torch.cholesky_solve(b, L.cholesky((a + a.mT) / 2)), (3, 2), spd(3)),
    correct("cholesky inverse", lambda a: torch.cholesky_inverse(L.cholesky((a + a.mT) / 2)), spd(3)),
    correct("lu factors", lambda a: L.lu_factor(a)[0], spd(3)),
    correct("solve, spd", L.solve, spd(3), (3, 2)),
    correct("least squares", lambda a, b: L.lstsq(a, b).solution, (5, 3), (5, 2)),
    correct("householder", lambda a: L.qr(a).Q, (4, 3)),
    correct("matrix norm 1", lambda a: L.matrix_norm(a, 1), X),
    correct("matrix norm nuclear", lambda a: L.matrix_norm(a, "nuc"), X),
    correct("condition number", lambda a: L.cond(a), spd(3)),
    correct("eigvals", lambda a: L.eigvals(a).abs().sum(), spd(3)),
    correct("tensorsolve", lambda a, b: L.tensorsolve(a.reshape(2, 2, 2, 2), b), spd(4), (2, 2)),
    correct("quadratic form", lambda x, a: x @ a @ x, (4,), (4, 4)),
    correct("diagonal", lambda a: a.diagonal() * 1, (4, 4)),
    correct("diag_embed", torch.diag_embed, X),
    correct("block_diag", torch.block_diag, X, X),
    correct("cov", torch.cov, (3, 6)),
    correct("corrcoef", torch.corrcoef, (3, 6)),
]

# Each place is written once: with two writers, which one wins is not defined.
ROWS = index("k", below="n", unique=True)

PLACES = [
    correct("masked_select", torch.masked_select, X, truths(3, 4)),
    correct("masked_scatter", torch.masked_scatter, X, truths(3, 4), (3, 4)),
    correct("index_put", lambda x, i, s: x.index_put((i,), s), {"x": "n d", "i": ROWS, "s": "k d"}),
    correct(
        "index_put accumulate", lambda x, i, s: x.index_put((i,), s, accumulate=True), X, integers(5, below=3), (5, 4)
    ),
    correct("index_copy", lambda x, s: x.index_copy(0, torch.tensor([2, 0]), s), X, (2, 4)),
    correct("index_fill", lambda x: x.index_fill(0, torch.tensor([1]), 2.0), X),
    correct("take", torch.take, X, integers(6, below=12)),
    correct("put", lambda x, s: x.put(torch.tensor([0, 3]), s), X, (2,)),
    correct("advanced index", lambda x, i: x[i, i.flip(0)], (4, 4), integers(5, below=4)),
    correct("segment mean", lambda x, i: x.new_zeros(3, 4).index_reduce(0, i, x, "mean"), (5, 4), integers(5, below=3)),
    correct(
        "embedding_bag", lambda w, i: F.embedding_bag(i.reshape(2, 3), w, mode="sum"), (4, 5), integers(6, below=4)
    ),
    correct("repeat_interleave", lambda x: x.repeat_interleave(2, 0), X),
    correct("split and swap", lambda x: torch.cat(x.split(2, 1)[::-1], 1), X),
    correct("chunks", lambda x: x.chunk(2, 1), X),
    correct("stack", lambda x, y: torch.stack([x, y, x]), X, X),
    correct("narrow", lambda x: x.narrow(1, 1, 2) * 1, X),
    correct("strided slice", lambda x: x[:, ::2] * 1, X),
    correct("rot90", lambda x: x.rot90(), X),
    correct("movedim", lambda x: x.movedim(0, 1) * 1, X),
    correct("expand", lambda x: x.expand(2, *x.shape) * 1, X),
    correct("tile", lambda x: x.tile(2, 3), X),
    correct("unfold of a tensor", lambda x: x.unfold(1, 3, 1) * 1, X),
    correct("cartesian product", torch.cartesian_prod, (3,), (2,)),
    correct("combinations", torch.combinations, (4,)),
    correct("meshgrid", lambda x, y: torch.meshgrid(x, y, indexing="ij"), (3,), (2,)),
    correct("trapezoid", torch.trapezoid, X),
    correct("cumulative trapezoid", torch.cumulative_trapezoid, X),
    correct("gradient", lambda x: torch.gradient(x)[0], (5, 4)),
    correct("fold", lambda x: F.fold(x, (3, 3), 2), (1, 8, 4)),
    correct("channel_shuffle", lambda x: F.channel_shuffle(x, 2), (1, 4, 2, 2)),
    correct("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2), IMAGE),
]

LAYERS = [
    correct("conv3d", F.conv3d, (1, 2, 3, 3, 3), (2, 2, 2, 2, 2)),
    correct("conv2d, groups", lambda x, w, b: F.conv2d(x, w, b, groups=2, padding=1), IMAGE, (2, 1, 3, 3), (2,)),
    correct("conv2d, dilated", lambda x, w: F.conv2d(x, w, dilation=2), IMAGE, (2, 2, 2, 2)),
    correct("conv_transpose2d", lambda x, w: F.conv_transpose2d(x, w, stride=2), IMAGE, (2, 2, 2, 2)),
    correct("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, 3), IMAGE),
    correct("avg_pool3d", lambda x: F.avg_pool3d(x, 2), (1, 1, 4, 4, 4)),
    correct("max_unpool1d", lambda x: F.max_unpool1d(*F.max_pool1d(x, 2, return_indices=True), 2), (1, 2, 6)),
    correct("local_response_norm", lambda x: F.local_response_norm(x, 2), IMAGE),
    correct("affine_grid", lambda t: F.affine_grid(t, (2, 1, 3, 3), align_corners=False), (2, 2, 3)),
    correct("trilinear", lambda x: F.interpolate(x, scale_factor=2, mode="trilinear"), (1, 1, 2, 2, 2)),
    correct("area", lambda x: F.interpolate(x, size=3, mode="area"), (1, 2, 6)),
    correct("pad circular", lambda x: F.pad(x, (1, 1), mode="circular"), (2, 2, 4)),
    correct("pad replicate", lambda x: F.pad(x, (2, 1), mode="replicate"), (2, 2, 4)),
    correct("dropout", lambda x: F.dropout(x, 0.3), X),
    correct("feature dropout", lambda x: F.dropout1d(x, 0.5), (2, 3, 4)),
    correct("alpha_dropout", lambda x: F.alpha_dropout(x, 0.3, training=True), X),
    correct("gumbel_softmax", lambda x: F.gumbel_softmax(x, tau=1.0), X),
    correct("rrelu", lambda x: F.rrelu(x, training=True), X),
    correct("gru cell", lambda x, h, w, u: torch.gru_cell(x, h, w, u), (2, 3), (2, 2), (6, 3), (6, 2)),
    correct(
        "lstm cell", lambda x, h, c, w, u: torch.lstm_cell(x, (h, c), w, u), (2, 3), (2, 2), (2, 2), (8, 3), (8, 2)
    ),
    correct("attention, causal", lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=True), (1, 3, 4)),
    correct("module linear", _seeded(lambda: torch.nn.Linear(4, 3)), X),
    correct(
        "module mlp",
        _seeded(lambda: torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.GELU(), torch.nn.Linear(5, 2))),
        X,
    ),
    correct("module gru", _seeded(lambda: torch.nn.GRU(4, 3)), (2, 1, 4)),
]

LOSSES = [
    correct("multilabel margin", lambda x, t: F.multilabel_soft_margin_loss(x, t.to(x.dtype)), X, truths(3, 4)),
    correct("margin ranking", lambda x, y: F.margin_ranking_loss(x, y, torch.ones_like(x)), X, X),
    correct("log cosh", lambda x, y: (x - y).cosh().log().mean(), X, X),
    correct("focal", lambda x, t: _focal(x, t.to(x.dtype)), X, truths(3, 4)),
    correct("dice", lambda x, t: 1 - 2 * (x.sigmoid() * t).sum() / (x.sigmoid().sum() + t.sum() + 1), X, truths(3, 4)),
    correct("ctc", lambda x: _ctc(x), (5, 1, 4)),
    correct("cross entropy, probabilities", lambda x, y: F.cross_entropy(x, y.softmax(-1)), X, X),
    correct(
        "cross entropy, ignored", lambda x, t: F.cross_entropy(x, t, ignore_index=0), X, fixed(torch.tensor([1, 0, 3]))
    ),
    correct(
        "cross entropy, weighted",
        lambda x, w, t: F.cross_entropy(x, t, w),
        X,
        fixed(torch.tensor([0.5, 1.5, 1.0, 2.0], dtype=torch.float64)),
        integers(3, below=4),
    ),
    correct("contrastive", lambda x, y: F.cross_entropy(x @ y.mT, torch.arange(len(x))), (3, 4), (3, 4)),
    correct("kl of normals", lambda m, s: 0.5 * (m.square() + s.exp() - 1 - s).sum(), X, X),
]


def _ctc(x):
    if x.shape[-1] < 3:  # torch reads beyond the end where there is no such class, and may end the process
        raise ValueError("the labels 1 and 2 need three classes")
    return F.ctc_loss(x.log_softmax(-1), torch.tensor([[1, 2]]), torch.tensor([5]), torch.tensor([2]))


def _focal(x, t):
    p = x.sigmoid()
    hit = t * p + (1 - t) * (1 - p)
    return -((1 - hit).square() * hit.log()).mean()


ARITHMETIC = [
    correct("polygamma", lambda x: torch.polygamma(1, x), uniform(3, 4, low=0.5, high=4)),
    correct("mvlgamma", lambda x: torch.mvlgamma(x, 2), uniform(3, 4, low=1, high=4)),
    correct("zeta", lambda x: S.zeta(2.5, x), uniform(3, 4, low=0.5, high=4)),
    correct("erfcx", S.erfcx, X),
    correct("expit of logit", lambda x: S.expit(S.logit(x)), uniform(3, 4, low=0.1, high=0.9)),
    correct("i1e", S.i1e, X),
    correct("renorm", lambda x: torch.renorm(x, 2, 0, 1.0), X),
    correct("addcdiv", torch.addcdiv, X, X, uniform(3, 4, low=0.5, high=2)),
    correct("ldexp", lambda x: torch.ldexp(x, torch.tensor(3)), X),
    correct("rad2deg", torch.rad2deg, X),
    correct("logaddexp2", torch.logaddexp2, X, X),
    correct("clamp by tensors", torch.clamp, X, uniform(3, 4, low=-2, high=-1), uniform(3, 4, low=1, high=2)),
    correct("heaviside product", lambda x: x * torch.heaviside(x.detach(), x.new_zeros(())), X),
    correct("horner", lambda x: ((2 * x - 1) * x + 3) * x, {"x": "n d"}),
    correct("stable softplus", lambda x: _softplus(x), {"x": "n"}),
    correct("log of a sum", lambda x, y: (x.exp().sum(-1) + y.square().sum(-1)).log(), {"x": "n d", "y": "n k"}),
    correct("pdist", lambda x: _pdist(x), (5, 3)),
    correct("rotary", lambda x, a: _rotary(x, a), (3, 4), (3, 2)),
    correct("broadcast bias", lambda x, b: x + b, {"x": "n d", "b": "d"}),
    correct("scalar", lambda x: x.sin(), {"x": ""}),
    correct("batch of any rank", lambda x, w: x @ w, {"x": "*b d", "w": "d k"}),
]


def _softplus(x):
    """With a constant larger term: by way of clamp and abs, autograd gives one of the one-sided slopes at zero."""
    larger = x.detach().clamp(min=0)
    rest = torch.where(x > 0, (-larger).exp() + (x - larger).expm1(), (x - larger).exp())
    return larger + rest.log1p()


def _pdist(x):
    if not len(x):  # without rows, torch's backward ends the process
        raise ValueError("there are no rows")
    return F.pdist(x)


def _rotary(x, angle):
    a, b = x.chunk(2, -1)
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


ENTRIES = (*catalogue_elementwise.ENTRIES, *catalogue_tensor.ENTRIES)
# "pdist" is told with its domain above.
CATALOGUE = [of_entry(entry) for entry in ENTRIES if entry.name != "pdist"]
SUBJECTS = [*CATALOGUE, *FOURIER, *COMPLEX, *MATRICES, *PLACES, *LAYERS, *LOSSES, *ARITHMETIC]
