"""One source that several elements come from: their cotangents have to be added up."""

from __future__ import annotations

import torch

from properties.naming import functions as f
from properties.naming.entry import (
    DUPLICATES,
    SAYS_WINS,
    WINS,
    Planted,
    of,
    real,
    values,
)


def _assigned_rows(table, index, g):
    made = torch.zeros_like(table)
    made[index] = g
    return made


def _added_rows(table, index, g):
    made = torch.zeros_like(table)
    made[index] += g
    return made


def tiled(x):
    return x.repeat(3, 1)


def window_sums(x):
    """Sums of three neighbours."""
    return x.unfold(-1, 3, 1).sum(-1)


def _windows_backward(x, g):
    at = torch.arange(g.shape[-1])[:, None] + torch.arange(3)
    return torch.zeros_like(x).index_add(-1, at.reshape(-1), g.repeat_interleave(3, -1))


def _windows_assigned(x, g):
    at = torch.arange(g.shape[-1])[:, None] + torch.arange(3)
    return torch.zeros_like(x).index_copy(-1, at.reshape(-1), g.repeat_interleave(3, -1))


_TABLE = (real(5, 3), values(0, 2, 2, 4, 0, 2))

_AT = values(0, 2, 2, 1, 1, 1, 3, 0, 3, 2, 2, 2)

ENTRIES: tuple[Planted, ...] = (
    of(
        f.embedding,
        f.embedding_backward,
        _assigned_rows,
        *_TABLE,
        told=True,
        id="embedding-assigned",
        kind=DUPLICATES,
        cause="made[index] = g keeps the last of equal indices",
        names=WINS,
        or_says=SAYS_WINS,
    ),
    of(
        f.embedding,
        f.embedding_backward,
        _added_rows,
        *_TABLE,
        id="embedding-buffered-add",
        kind=DUPLICATES,
        cause="made[index] += g adds one of equal indices",
        names=WINS,
        or_says=SAYS_WINS,
    ),
    of(
        f.gather,
        f.gather_backward,
        lambda x, index, g: torch.zeros_like(x).scatter(1, index, g),
        real(3, 4),
        lambda g: _AT(g).reshape(3, 4),
        told=True,
        id="gather-scattered",
        kind=DUPLICATES,
        cause="scatter in place of scatter_add",
        names=WINS,
        or_says=SAYS_WINS,
    ),
    of(
        tiled,
        lambda x, g: g.reshape(3, *x.shape).sum(0),
        lambda x, g: g[: len(x)],
        real(4, 3),
        id="tile-first-copy",
        kind=DUPLICATES,
        cause="the first copy's cotangent in place of the sum over the copies",
        names=(*WINS, "MISSING_REDUCTION"),
        or_says=SAYS_WINS + "|cop(y|ies)|first|sum over",
    ),
    of(
        window_sums,
        _windows_backward,
        _windows_assigned,
        real(2, 7),
        told=True,
        id="windows-overlap-assigned",
        kind=DUPLICATES,
        cause="overlapping windows overwrite each other",
        names=WINS,
        or_says=SAYS_WINS + "|overlap",
    ),
)
