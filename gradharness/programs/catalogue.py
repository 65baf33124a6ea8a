"""Which ops there are to make programs of; one of them may have a VJP that is under test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache

from gradharness.errors import UnknownNameError
from gradharness.programs.op import Op, Vjp
from gradharness.programs.ops import all_ops


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A fixed ring of ops.

    Attributes:
        ops: In order; names are unique.
        suspects: Names of the ops whose VJPs are under test; all others are trusted.
        by_name: The same ops.
        numbers: The place of each in the ring.
    """

    ops: tuple[Op, ...]
    suspects: tuple[str, ...] = ()
    by_name: Mapping[str, Op] = field(init=False, repr=False, compare=False)
    numbers: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {op.name: op for op in self.ops})
        object.__setattr__(self, "numbers", {op.name: i for i, op in enumerate(self.ops)})

    def find(self, name: str) -> Op:
        """The op of that name.

        Raises:
            UnknownNameError: If there is none.
        """
        if name not in self.by_name:
            raise UnknownNameError("op", name, list(self.by_name))
        return self.by_name[name]

    def replaced(self, name: str, vjp: Vjp) -> Catalogue:
        """The same ops, one of them with another VJP, which is under test.

        Args:
            name: Whose.
            vjp: ``vjp(call, *cotangents)``, in the form of ``Op.vjp``.

        Raises:
            UnknownNameError: If there is no op of that name.
        """
        found = self.find(name)
        ops = tuple(replace(op, vjp=vjp) if op is found else op for op in self.ops)
        return Catalogue(ops, tuple(dict.fromkeys((*self.suspects, name))))

    def added(self, op: Op) -> Catalogue:
        """The same ops and a new one, which is under test; one of the same name makes way for it."""
        return Catalogue((*(o for o in self.ops if o.name != op.name), op), (*self.suspects, op.name))


@cache
def catalogue() -> Catalogue:
    """All ops with our own VJPs."""
    return Catalogue(all_ops())


def replaced(name: str, vjp: Vjp) -> Catalogue:
    """The whole catalogue, with another VJP for one op.

    Args:
        name: Of a catalogue op.
        vjp: ``vjp(call, *cotangents)``: one gradient for each operand, or None; see ``Op.vjp``.

    Raises:
        UnknownNameError: If there is no op of that name.
    """
    return catalogue().replaced(name, vjp)
