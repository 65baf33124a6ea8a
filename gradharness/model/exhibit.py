"""What a finding shows besides its sentence: measured once, after the search, and drawn by reports.

An exhibit is data of one picture or table. A finding has those that could be measured for it and no others, so that a
report shows no empty frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleValue:
    """What one oracle says of the worst element: of ``finding.witness.label`` at ``finding.witness.index``.

    A finding has one for each oracle that answers, the one it was held against first. The subject's own value is
    ``finding.witness.got``. In one line it reads ``oracle: value ± bound``.

    Attributes:
        oracle: Its name.
        value: Its gradient there; of a complex primal ∂L/∂Re + i·∂L/∂Im, as torch has it.
        bound: Its own error bound, at least 0 and finite; no tolerance is in it.
    """

    oracle: str
    value: complex | float
    bound: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    """A gradient as it is and as it should be, in a failing case before shrinking: the witness is too small.

    The three tensors are in float64 and have the same two dims. What is shown of a gradient of another rank is told by
    ``shape``, ``corner`` and ``wrapped``.

    Attributes:
        label: Which gradient or output.
        expected: The oracle's elements.
        got: The subject's; zero where it gave none.
        bound: What is allowed per element.
        shape: Of the whole gradient.
        corner: Place in the whole of the element at [0, 0], one number per dim.
        worst: Row and column of the element that is furthest out of budget.
        wrapped: True if a long vector is shown in rows, one below the other.
        padding: Elements at the end of the last row of a wrapped one that are none.
        part: "real" or "imaginary" where the gradient is complex; else empty.
    """

    label: str
    expected: torch.Tensor
    got: torch.Tensor
    bound: torch.Tensor
    shape: tuple[int, ...]
    corner: tuple[int, ...]
    worst: tuple[int, int]
    wrapped: bool = False
    padding: int = 0
    part: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCurve:
    """Central differences at the worst element of the witness, from large steps to small ones.

    Attributes:
        label: Which gradient.
        index: Which element.
        steps: Changes of that element, in its own units, falling.
        values: Difference quotient for each.
        bounds: Error bound of each: truncation as neighbouring steps show it, and round-off.
        claimed: The subject's gradient there.
        expected: The oracle's.
    """

    label: str
    index: tuple[int, ...]
    steps: tuple[float, ...]
    values: tuple[float, ...]
    bounds: tuple[float, ...]
    claimed: float
    expected: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthCurve:
    """Error of a gradient in a low precision against the length of a dim.

    Attributes:
        label: Which gradient.
        dtype: The low precision.
        dim: Which dim, as the domain calls it.
        lengths: Its sizes, rising.
        errors: Root mean square of the error for each, as a share of the gradient's.
        plain: The same of plain torch; empty where it has no answer.
    """

    label: str
    dtype: str
    dim: str
    lengths: tuple[int, ...]
    errors: tuple[float, ...]
    plain: tuple[float, ...] = ()


class NodeKind(StrEnum):
    """What a node of a drawing is."""

    LEAF = "leaf"
    OP = "op"
    SUBJECT = "subject"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnNode:
    """One box of a drawing.

    Attributes:
        label: What is written in it.
        kind: Leaf, op, subject or output.
        guilty: Whether it is to blame.
    """

    label: str
    kind: NodeKind
    guilty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """The program in which a subject is wrong.

    Attributes:
        nodes: Its nodes; an edge names them by number.
        edges: (from, to), in the direction of the forward.
        why: How the subject stands in it.
    """

    nodes: tuple[DrawnNode, ...]
    edges: tuple[tuple[int, int], ...]
    why: str = ""


Exhibit: TypeAlias = OracleValue | HeatMap | StepCurve | LengthCurve | Drawing
