"""What is returned: number, shape and dtype of the gradients, or none at all."""

from __future__ import annotations

import torch

from properties.naming import functions as f
from properties.naming import layers as n
from properties.naming.entry import (
    MISSING,
    SIGNATURE,
    Planted,
    manual_dense,
    of,
    real,
)

_LOW = ("PRECISION_LOST", "LOW_INTERNALS")


class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, b):
        ctx.save_for_backward(x, w)
        return x * w + b

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g * w, (g * x).sum(0), g.sum(0)


class ScaleOfTwo(Scale):
    @staticmethod
    def backward(ctx, g):
        return Scale.backward(ctx, g)[:2]


class ScaleKept(Scale):
    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g * w, (g * x).sum(0), g.sum(0, keepdim=True).mT


class ScaleSingle(Scale):
    @staticmethod
    def backward(ctx, g):
        gx, gw, gb = Scale.backward(ctx, g)
        return gx, gw.float(), gb


class ScaleNumber(Scale):
    @staticmethod
    def backward(ctx, g):
        gx, gw, _ = Scale.backward(ctx, g)
        return gx, gw, float(g.sum())


class ScaleWithoutWeight(Scale):
    @staticmethod
    def backward(ctx, g):
        gx, _, gb = Scale.backward(ctx, g)
        return gx, None, gb


class ScaleMisasked(Scale):
    @staticmethod
    def backward(ctx, g):
        gx, gw, gb = Scale.backward(ctx, g)
        return gx, gw if ctx.needs_input_grad[0] else None, gb


def _third_left_out(x, w, y, g):
    gx, gw, gy = f.bilinear_backward(x, w, y, g)
    return gx, gw, torch.zeros_like(gy)


_SCALE = (real(4, 3), real(3), real(3))

_BILINEAR = (real(4, 3), real(2, 3, 5), real(4, 5))


def _scale(id: str, kind: str, wrong: object, cause: str, *names: str, says: str = "", told: bool = False) -> Planted:
    reference = (lambda x, w, b: x * w + b) if told else None
    return Planted(
        id=id,
        kind=kind,
        wrong=wrong,
        twin=Scale,
        inputs=_SCALE,
        cause=cause,
        names=names,
        says=says,
        reference=reference,
    )


ENTRIES: tuple[Planted, ...] = (
    _scale(
        "scale-two-of-three", SIGNATURE, ScaleOfTwo, "two gradients for three inputs", "WRONG_COUNT", "BACKWARD_RAISES"
    ),
    _scale(
        "scale-bias-kept",
        SIGNATURE,
        ScaleKept,
        "b's gradient has an axis too many",
        "WRONG_SHAPE",
        "MISSING_REDUCTION",
        says=r"\bb\b|index 2",
        told=True,
    ),
    _scale(
        "scale-weight-single", SIGNATURE, ScaleSingle, "w's gradient is float32", "WRONG_DTYPE", *_LOW, says=r"\bw\b"
    ),
    _scale(
        "scale-bias-number", SIGNATURE, ScaleNumber, "b's gradient is a Python number", "WRONG_TYPE", "BACKWARD_RAISES"
    ),
    manual_dense(
        "dense-weight-transposed-shape",
        SIGNATURE,
        "dw has the transposed shape",
        ("WRONG_SHAPE", "TRANSPOSED"),
        r"\bw\b",
        dw=lambda x, w, g: g.mT @ x,
    ),
    _scale(
        "scale-weight-none",
        MISSING,
        ScaleWithoutWeight,
        "None for a weight that learns",
        "MISSING_GRADIENT",
        says=r"\bw\b",
    ),
    _scale(
        "scale-weight-misasked",
        MISSING,
        ScaleMisasked,
        "w's gradient depends on whether x needs one",
        "WRONG_SUBSET",
        "MISSING_GRADIENT",
        says=r"\bw\b",
        told=True,
    ),
    manual_dense("dense-bias-missing", MISSING, "backward leaves no db", ("MISSING_GRADIENT",), r"\bb\b", db=None),
    of(
        f.bilinear,
        f.bilinear_backward,
        _third_left_out,
        *_BILINEAR,
        told=True,
        id="bilinear-third-zero",
        kind=MISSING,
        cause="zeros for the second vector",
        names=("ZERO_GRADIENT", "MISSING_GRADIENT"),
        says=r"\by\b",
    ),
    of(
        n.gru_cell,
        n.gru_cell_backward,
        lambda *a: tuple(0 * v if i == 1 else v for i, v in enumerate(n.gru_cell_backward(*a))),
        real(3, 2),
        real(3, 4),
        real(6, 4),
        real(6, 4),
        real(6, 4),
        told=True,
        id="gru-state-cut",
        kind=MISSING,
        cause="the state's gradient is cut to zero",
        names=("ZERO_GRADIENT", "MISSING_GRADIENT"),
        says=r"\bh\b",
    ),
)
