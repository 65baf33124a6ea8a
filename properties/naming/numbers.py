"""Precision, and complex numbers."""

from __future__ import annotations

import torch

from properties.naming import functions as f
from properties.naming import layers as n
from properties.naming.entry import (
    CONJUGATE,
    PRECISION,
    Planted,
    complex_,
    function,
    of,
    real,
)

_LOW = ("PRECISION_LOST", "LOW_INTERNALS")


def _single_softmax(x, g):
    return n.softmax_backward(x.float(), g.float()).to(x.dtype)


def _half_weight(x, w, b, g):
    gx, gw, gb = n.linear_backward(x, w, b, g)
    return gx, (g.half().mT @ x.half()).to(gw.dtype), gb


def _row_by_row(x, w, g):
    gx, _ = n.rms_norm_backward(x, w, g)
    products = g * x * (x.square().mean(-1, keepdim=True) + n.EPS).rsqrt()
    total = torch.zeros_like(w, dtype=torch.bfloat16)
    for row in products:
        total = total + row.to(torch.bfloat16)
    return gx, total.to(w.dtype)


def _single_attention(q, k, v, g):
    gq, gk, gv = n.attention_backward(q.float(), k.float(), v.float(), g.float())
    return gq.to(q.dtype), gk.to(k.dtype), gv.to(v.dtype)


def complex_linear(x, w):
    return x @ w.mT


def _complex_backward(x, w, g):
    return g @ w.conj(), g.mT @ x.conj()


def spectrum(z):
    return (z * z.conj()).real


def filtered(x, h):
    """Circular convolution by the Fourier transform."""
    return torch.fft.irfft(torch.fft.rfft(x) * torch.fft.rfft(h), n=x.shape[-1])


def _filtered_backward(x, h, g):
    gf, n_ = torch.fft.rfft(g), x.shape[-1]
    gx = torch.fft.irfft(gf * torch.fft.rfft(h).conj(), n=n_)
    return gx, torch.fft.irfft(gf * torch.fft.rfft(x).conj(), n=n_)


def _filtered_unconjugated(x, h, g):
    gf, n_ = torch.fft.rfft(g), x.shape[-1]
    return torch.fft.irfft(gf * torch.fft.rfft(h), n=n_), _filtered_backward(x, h, g)[1]


ENTRIES: tuple[Planted, ...] = (
    of(
        n.softmax,
        n.softmax_backward,
        _single_softmax,
        real(4, 5),
        told=True,
        id="softmax-single-internals",
        kind=PRECISION,
        cause="the backward runs in float32",
        names=_LOW,
    ),
    of(
        n.linear,
        n.linear_backward,
        _half_weight,
        real(4, 3),
        real(5, 3),
        real(5),
        id="linear-half-weight",
        kind=PRECISION,
        cause="the weight's product is made in float16",
        names=_LOW,
        says=r"\bw\b",
    ),
    of(
        n.rms_norm,
        n.rms_norm_backward,
        _row_by_row,
        real(6, 4),
        real(4),
        told=True,
        id="rms-norm-bfloat16-sum",
        kind=PRECISION,
        cause="rows are added up in bfloat16",
        names=_LOW,
        says=r"\bw\b",
    ),
    of(
        n.attention,
        n.attention_backward,
        _single_attention,
        real(4, 3),
        real(5, 3),
        real(5, 2),
        id="attention-single-internals",
        kind=PRECISION,
        cause="the backward runs in float32",
        names=_LOW,
    ),
    of(
        complex_linear,
        _complex_backward,
        lambda x, w, g: (g @ w, g.mT @ x.conj()),
        complex_(4, 3),
        complex_(5, 3),
        told=True,
        id="complex-linear-input",
        kind=CONJUGATE,
        cause="w is not conjugated for x's gradient",
        names=("MISSING_CONJUGATE", "WRONG_FOR_COMPLEX"),
        says=r"\bx\b",
    ),
    of(
        f.product,
        f.product_backward,
        lambda x, y, g: (g * y, g * x),
        complex_(4, 3),
        complex_(4, 3),
        id="complex-product",
        kind=CONJUGATE,
        cause="neither factor is conjugated",
        names=("MISSING_CONJUGATE", "WRONG_FOR_COMPLEX"),
    ),
    of(
        spectrum,
        lambda z, g: 2 * g * z,
        lambda z, g: 2 * g * z.conj(),
        complex_(4, 3),
        told=True,
        id="spectrum-conjugated",
        kind=CONJUGATE,
        cause="2 conj(z) where torch's convention is 2 z",
        names=("MISSING_CONJUGATE", "WRONG_FOR_COMPLEX"),
        or_says="conj",
    ),
    of(
        filtered,
        _filtered_backward,
        _filtered_unconjugated,
        real(2, 6),
        real(2, 6),
        id="filter-unconjugated",
        kind=CONJUGATE,
        cause="the filter's spectrum is not conjugated for x's gradient",
        names=("MISSING_CONJUGATE", "TRANSPOSED"),
        or_says=r"conj|revers|flip|transpos",
    ),
    Planted(
        id="real-factor-complex-gradient",
        kind=CONJUGATE,
        wrong=function(f.product, lambda x, y, g: (g * y.conj(), g * x)),
        inputs=(real(4, 3), complex_(4, 3)),
        twin=function(f.product, lambda x, y, g: ((g * y.conj()).real, g * x)),
        cause="the gradient of a real factor is left complex",
        names=("WRONG_DTYPE", "WRONG_FOR_COMPLEX", "BACKWARD_RAISES"),
        says=r"complex",
    ),
)
