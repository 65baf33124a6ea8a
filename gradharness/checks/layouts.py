"""The memory layouts in which a case is looked at: what autograd hands to a backward, and users to a forward."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

import torch

from gradharness.model.case import Case
from gradharness.model.subject import Primals, Tensors
from gradharness.numerics import layout, tree

# Arguments one at a time only where there are few of them: all of them together come in any case.
_FEW = 4

Arrange: TypeAlias = Callable[[Case], tuple[Case, Case] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way in which a case can lie in memory.

    Attributes:
        where: Completes "wrong when …".
        why: Where such a layout comes from, with a comma in front; empty if that is plain.
        arrange: From a case to the same values in contiguous memory and in this layout; None where the layout changes
            nothing.
        own_values: Whether the values are the case's own; else some are made equal, since they share memory.
        of_primals: Whether primals lie otherwise; else only cotangents do.
        share: Lines for a reproducer that make arguments share memory, from the arranged case.
    """

    where: str
    why: str = ""
    arrange: Arrange
    own_values: bool = True
    of_primals: bool = False
    share: Callable[[Primals], tuple[str, ...]] = lambda _primals: ()


@dataclass(frozen=True, slots=True)
class _Kind:
    words: str
    lay: layout.Layout
    fits: Callable[[torch.Tensor], bool]
    why: str = ""


def _dims(fewest: int) -> Callable[[torch.Tensor], bool]:
    return lambda t: t.dim() >= fewest


def _swap_last(t: torch.Tensor) -> torch.Tensor:
    return layout.permuted(*range(t.dim() - 2), -1, -2)(t)


def _swap_first(t: torch.Tensor) -> torch.Tensor:
    return layout.permuted(1, 0, *range(2, t.dim()))(t)


_TRANSPOSED = _Kind("transposed", layout.reverse, _dims(2), ", as `.mT` of the output hands it to backward")
_WIDER = _Kind("part of a wider buffer", layout.narrow, _dims(1), ", as `torch.cat` hands it to backward")
_SLICED = _Kind("sliced (every second element of a buffer)", layout.slice_, _dims(1))
_LAST = _Kind("channels-last", layout.channels_last, layout.takes_channels_last)
_KINDS = (
    _TRANSPOSED,
    _WIDER,
    _SLICED,
    _Kind("transposed in its last two dims", _swap_last, _dims(3)),
    _Kind("transposed in its first two dims", _swap_first, _dims(3)),
    _LAST,
    _Kind("at an offset in its memory", layout.offset, _dims(0)),
)


def variants(case: Case, *, fixed_cotangent: bool) -> Iterator[Variant]:
    """All layouts of a case, those that autograd itself hands out first.

    Args:
        case: Gives the shapes.
        fixed_cotangent: True if the cotangents are nobody's to choose.
    """
    if not fixed_cotangent:
        yield from _of_cotangents(case)
    paths = tuple(p for p in tree.tensor_paths(case.primals.values) if _strided(tree.get(case.primals.values, p)))
    if any(not layout.is_compact(x) for x in case.primals.leaves):
        yield _as_given(case.primals)
    if 1 < len(paths) <= _FEW:
        for path in paths:
            yield from (_of_primals(case.primals, kind, (path,)) for kind in (_TRANSPOSED, _WIDER, _SLICED))
    yield from (_of_primals(case.primals, kind, paths) for kind in _KINDS)
    if not fixed_cotangent:
        yield from (_of_both(kind, paths) for kind in (_TRANSPOSED, _LAST))
    yield _expanded_primals(case.primals)
    yield from _sharing(case.primals)


def contiguous(case: Case) -> Case:
    """The case with contiguous copies of all tensors."""
    values = tree.map_tensors(layout.contiguous, case.primals.values)
    primals = replace(case.primals, values=values)
    return replace(case, primals=primals, cotangents=tuple(layout.contiguous(w) for w in case.cotangents))


# --- cotangents -----------------------------------------------------------------------------------------------------


def _of_cotangents(case: Case) -> Iterator[Variant]:
    what = "the cotangent is" if len(case.cotangents) == 1 else "the cotangents are"
    why = ", as `.sum()` hands it to backward"
    yield Variant(where=f"{what} expanded (stride 0)", why=why, arrange=_expanding(None))
    yield _relaid_cotangents(what, _TRANSPOSED)
    for axis, shown in ((0, "0"), (-1, "-1")):
        why = f", as `.sum({shown})` hands it to backward"
        yield Variant(where=f"{what} expanded (stride 0) along dim {shown}", why=why, arrange=_expanding(axis))
    yield from (_relaid_cotangents(what, kind) for kind in _KINDS[1:])
    why = ", as most operations after it hand it to backward"
    yield Variant(where=f"{what} laid out as the output", why=why, arrange=_as_outputs)


def _relaid_cotangents(what: str, kind: _Kind) -> Variant:
    def arrange(case: Case) -> tuple[Case, Case] | None:
        plain = contiguous(case)
        return _changed(plain, replace(plain, cotangents=_relaid(plain.cotangents, kind)))

    return Variant(where=f"{what} {kind.words}", why=kind.why, arrange=arrange)


def _expanding(axis: int | None) -> Arrange:
    """A constant cotangent, or one that is constant along an axis."""
    fewest = 1 if axis is None else 2

    def arrange(case: Case) -> tuple[Case, Case] | None:
        # The second draw: a special style of the first one may have a zero in this place.
        pairs = zip(case.cotangents, case.other_cotangents, strict=True)
        there = tuple(layout.expand(v, axis) if w.dim() >= fewest and w.numel() else w for w, v in pairs)
        plain = contiguous(case.with_cotangents(there))
        return _changed(plain, replace(plain, cotangents=there))

    return arrange


def _as_outputs(case: Case) -> tuple[Case, Case] | None:
    plain = contiguous(case)
    outputs = [case.outputs[i] for i in case.differentiable]
    there = tuple(
        layout.as_laid(w, y) if y.shape == w.shape and w.numel() and _strided(y) and not layout.overlaps(y) else w
        for w, y in zip(plain.cotangents, outputs, strict=True)
    )
    return _changed(plain, replace(plain, cotangents=there))


# --- primals --------------------------------------------------------------------------------------------------------


def _of_primals(primals: Primals, kind: _Kind, paths: Sequence[tree.Path]) -> Variant:
    def arrange(case: Case) -> tuple[Case, Case] | None:
        plain = contiguous(case)
        return _changed(plain, replace(plain, primals=_relaid_at(plain.primals, kind, paths)))

    return Variant(where=f"{_named(primals, kind, paths)} {kind.words}", arrange=arrange, of_primals=True)


def _of_both(kind: _Kind, paths: Sequence[tree.Path]) -> Variant:
    def arrange(case: Case) -> tuple[Case, Case] | None:
        plain = contiguous(case)
        there = replace(plain, primals=_relaid_at(plain.primals, kind, paths))
        return _changed(plain, replace(there, cotangents=_relaid(plain.cotangents, kind)))

    return Variant(where=f"primals and cotangents are {kind.words}", arrange=arrange, of_primals=True)


def _as_given(primals: Primals) -> Variant:
    """The layout in which the values came: that of the user's own example."""

    def arrange(case: Case) -> tuple[Case, Case] | None:
        plain = contiguous(case)
        there = [
            layout.as_laid(x, y) if x.numel() and not layout.overlaps(y) else y
            for x, y in zip(plain.primals.leaves, primals.leaves, strict=True)
        ]
        return _changed(plain, replace(plain, primals=plain.primals.at(there)))

    given = [(label, x) for label, x in zip(primals.labels, primals.leaves, strict=True) if not layout.is_compact(x)]
    strides = " and ".join(f"`{label}` has strides {tuple(x.stride())}" for label, x in given)
    own = all(not layout.overlaps(x) for _, x in given)
    return Variant(where=strides, arrange=arrange, of_primals=True, own_values=own)


def _expanded_primals(primals: Primals) -> Variant:
    """Every leaf constant along its first dim."""
    wide = [label for label, x in zip(primals.labels, primals.leaves, strict=True) if _repeats(x)]

    def arrange(case: Case) -> tuple[Case, Case] | None:
        if not wide:
            return None
        there = case.primals.at([layout.expand(x, 0) if _repeats(x) else x for x in case.primals.leaves])
        plain = contiguous(replace(case, primals=there))
        return _changed(plain, replace(plain, primals=there))

    return Variant(where=f"{_are(wide)} expanded (stride 0)", arrange=arrange, own_values=False, of_primals=True)


def _sharing(primals: Primals) -> Iterator[Variant]:
    """Arguments that are one tensor, or parts of one buffer."""
    whole = [path for path in primals.active if len(path) == 1 and tree.get(primals.values, path).dim()]
    for first, second in pairwise(whole):
        a, b = (primals.values[int(path[0])] for path in (first, second))
        if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and (a.shape, a.dtype) == (b.shape, b.dtype):
            yield _one_tensor(primals, first, second)
            break
    leaves = [tree.get(primals.values, path) for path in whole]
    if len(whole) > 1 and len({(x.shape[:-1], x.dtype) for x in leaves}) == 1:
        yield _one_buffer(primals, whole)


def _one_tensor(primals: Primals, first: tree.Path, second: tree.Path) -> Variant:
    a, b = primals.names[int(first[0])], primals.names[int(second[0])]

    def arrange(case: Case) -> tuple[Case, Case] | None:
        values = contiguous(case).primals.values
        there = replace(case.primals, values=tree.replace(values, second, tree.get(values, first)))
        here = replace(case, primals=there)
        return contiguous(here), replace(contiguous(here), primals=there)

    def share(given: Primals) -> tuple[str, ...]:
        number = given.active.index(second)
        return (f"arguments[{b!r}] = leaves[{number}] = arguments[{a!r}].detach().requires_grad_()",)

    where = f"`{a}` and `{b}` are one tensor"
    return Variant(where=where, arrange=arrange, own_values=False, of_primals=True, share=share)


def _one_buffer(primals: Primals, paths: Sequence[tree.Path]) -> Variant:
    names = [primals.names[int(path[0])] for path in paths]

    def arrange(case: Case) -> tuple[Case, Case] | None:
        plain = contiguous(case)
        values = plain.primals.values
        parts = layout.side_by_side([tree.get(values, path) for path in paths])
        for path, part in zip(paths, parts, strict=True):
            values = tree.replace(values, path, part)
        return _changed(plain, replace(plain, primals=replace(plain.primals, values=values)))

    def share(given: Primals) -> tuple[str, ...]:
        # The last one's memory reaches to the buffer's end.
        lines = [f"buffer = arguments[{names[-1]!r}].detach()"]
        for name, path in zip(names[:-1], paths, strict=False):
            x = tree.get(given.values, path)
            place = f"{tuple(x.shape)}, {tuple(x.stride())}, {x.storage_offset()}"
            number = given.active.index(path)
            lines.append(f"arguments[{name!r}] = leaves[{number}] = buffer.as_strided({place}).requires_grad_()")
        return tuple(lines)

    where = f"{_are(names, 'parts')} of one buffer"
    return Variant(where=where, why=", as `chunk` makes them", arrange=arrange, of_primals=True, share=share)


# --- helpers --------------------------------------------------------------------------------------------------------


def _changed(plain: Case, there: Case) -> tuple[Case, Case] | None:
    """The pair, unless the second is contiguous as well."""
    tensors = [tree.get(there.primals.values, p) for p in tree.tensor_paths(there.primals.values)]
    if all(layout.is_compact(t) for t in (*tensors, *there.cotangents)):
        return None
    return plain, there


def _relaid(tensors: Tensors, kind: _Kind) -> Tensors:
    return tuple(_lay(t, kind) for t in tensors)


def _relaid_at(primals: Primals, kind: _Kind, paths: Sequence[tree.Path]) -> Primals:
    values = primals.values
    for path in paths:
        values = tree.replace(values, path, _lay(tree.get(values, path), kind))
    return replace(primals, values=values)


def _lay(tensor: torch.Tensor, kind: _Kind) -> torch.Tensor:
    return kind.lay(tensor) if tensor.numel() and _strided(tensor) and kind.fits(tensor) else tensor


def _named(primals: Primals, kind: _Kind, paths: Sequence[tree.Path]) -> str:
    fitting = [p for p in paths if kind.fits(tree.get(primals.values, p))]
    return _are([tree.label(primals.names[int(p[0])], p[1:]) for p in fitting])


def _are(names: Sequence[str], what: str = "") -> str:
    quoted = [f"`{name}`" for name in names]
    joined = " and ".join(filter(None, [", ".join(quoted[:-1]), *quoted[-1:]]))
    return f"{joined} {'is' if len(names) == 1 else 'are'}" + (f" {what}" if what else "")


def _repeats(x: torch.Tensor) -> bool:
    return x.dim() > 0 and x.shape[0] > 1 and x.numel() > 0


def _strided(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided
