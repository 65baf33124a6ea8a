"""Exhibits in a record: one struct per kind, told apart by ``kind``, and the way there and back."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from gradharness.model.exhibit import (
    Drawing,
    DrawnNode,
    Exhibit,
    HeatMap,
    LengthCurve,
    NodeKind,
    OracleValue,
    StepCurve,
)
from gradharness.report import codec


class OracleValueRecord(msgspec.Struct, kw_only=True, tag_field="kind", tag="oracle_value"):
    """What one oracle says of the worst element."""

    oracle: str
    value: Any
    bound: float | str


class HeatMapRecord(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="kind", tag="heat_map"):
    """A gradient as it is and as it should be."""

    label: str
    expected: Any
    got: Any
    bound: Any
    shape: list[int]
    corner: list[int]
    worst: tuple[int, int]
    wrapped: bool = False
    padding: int = 0
    part: str = ""


class StepCurveRecord(msgspec.Struct, kw_only=True, tag_field="kind", tag="step_curve"):
    """Central differences from large steps to small ones."""

    label: str
    index: list[int]
    steps: list[float | str]
    values: list[float | str]
    bounds: list[float | str]
    claimed: float | str
    expected: float | str


class LengthCurveRecord(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="kind", tag="length_curve"):
    """Error in a low precision against the length of a dim."""

    label: str
    dtype: str
    dim: str
    lengths: list[int]
    errors: list[float | str]
    plain: list[float | str] = []


class DrawnNodeRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One box of a drawing."""

    label: str
    kind: str
    guilty: bool = False


class DrawingRecord(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="kind", tag="drawing"):
    """The program in which a subject is wrong."""

    nodes: list[DrawnNodeRecord]
    edges: list[tuple[int, int]]
    why: str = ""


ExhibitRecord: TypeAlias = OracleValueRecord | HeatMapRecord | StepCurveRecord | LengthCurveRecord | DrawingRecord


def encoded(exhibit: Exhibit) -> ExhibitRecord:
    """An exhibit as plain data."""
    match exhibit:
        case OracleValue():
            value = codec.encode(exhibit.value)
            return OracleValueRecord(oracle=exhibit.oracle, value=value, bound=codec.number(exhibit.bound))
        case HeatMap():
            return _heat_map(exhibit)
        case StepCurve():
            return StepCurveRecord(
                label=exhibit.label,
                index=list(exhibit.index),
                steps=_numbers(exhibit.steps),
                values=_numbers(exhibit.values),
                bounds=_numbers(exhibit.bounds),
                claimed=codec.number(exhibit.claimed),
                expected=codec.number(exhibit.expected),
            )
        case LengthCurve():
            return LengthCurveRecord(
                label=exhibit.label,
                dtype=exhibit.dtype,
                dim=exhibit.dim,
                lengths=list(exhibit.lengths),
                errors=_numbers(exhibit.errors),
                plain=_numbers(exhibit.plain),
            )
        case Drawing():
            nodes = [DrawnNodeRecord(label=n.label, kind=n.kind.value, guilty=n.guilty) for n in exhibit.nodes]
            return DrawingRecord(nodes=nodes, edges=list(exhibit.edges), why=exhibit.why)


def decoded(record: ExhibitRecord) -> Exhibit:
    """The exhibit that ``encoded`` was given.

    Raises:
        ValueError: If the data cannot come from there.
    """
    match record:
        case OracleValueRecord():
            value = codec.decode(record.value)
            if not isinstance(value, int | float | complex):
                raise ValueError(f"an oracle's value is a number, not {value!r}")  # noqa: TRY004 - damaged data
            return OracleValue(oracle=record.oracle, value=value, bound=float(record.bound))
        case HeatMapRecord():
            return _unheat_map(record)
        case StepCurveRecord():
            return StepCurve(
                label=record.label,
                index=tuple(record.index),
                steps=_floats(record.steps),
                values=_floats(record.values),
                bounds=_floats(record.bounds),
                claimed=float(record.claimed),
                expected=float(record.expected),
            )
        case LengthCurveRecord():
            return LengthCurve(
                label=record.label,
                dtype=record.dtype,
                dim=record.dim,
                lengths=tuple(record.lengths),
                errors=_floats(record.errors),
                plain=_floats(record.plain),
            )
        case DrawingRecord():
            return _undrawing(record)


def _heat_map(exhibit: HeatMap) -> HeatMapRecord:
    return HeatMapRecord(
        label=exhibit.label,
        expected=codec.encode(exhibit.expected),
        got=codec.encode(exhibit.got),
        bound=codec.encode(exhibit.bound),
        shape=list(exhibit.shape),
        corner=list(exhibit.corner),
        worst=exhibit.worst,
        wrapped=exhibit.wrapped,
        padding=exhibit.padding,
        part=exhibit.part,
    )


def _unheat_map(record: HeatMapRecord) -> HeatMap:
    expected, got, bound = (codec.decode(t) for t in (record.expected, record.got, record.bound))
    shapes = [getattr(t, "shape", ()) for t in (expected, got, bound)]
    if any(len(s) != 2 or s != shapes[0] for s in shapes):
        raise ValueError(f"the tensors of a heat map have two dims and one shape, not {shapes}")
    return HeatMap(
        label=record.label,
        expected=expected,
        got=got,
        bound=bound,
        shape=tuple(record.shape),
        corner=tuple(record.corner),
        worst=record.worst,
        wrapped=record.wrapped,
        padding=record.padding,
        part=record.part,
    )


def _undrawing(record: DrawingRecord) -> Drawing:
    count = len(record.nodes)
    if any(not 0 <= end < count for edge in record.edges for end in edge):
        raise ValueError(f"an edge of a drawing names no node: there are {count}")
    nodes = tuple(DrawnNode(label=n.label, kind=NodeKind(n.kind), guilty=n.guilty) for n in record.nodes)
    return Drawing(nodes=nodes, edges=tuple(record.edges), why=record.why)


def _numbers(values: tuple[float, ...]) -> list[float | str]:
    return [codec.number(value) for value in values]


def _floats(values: list[float | str]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
