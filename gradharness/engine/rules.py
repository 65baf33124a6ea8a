"""A user's own VJP under test: of a catalogue op, or of a forward of the user's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gradharness.engine.program_search import ProgramFinding, finding, search, see
from gradharness.errors import UnknownNameError, UsageError
from gradharness.programs.catalogue import Catalogue, catalogue
from gradharness.programs.op import Domain, Op, Vjp
from gradharness.programs.own import OwnForward, call_source
from gradharness.programs.program import Program

_DOMAINS = {domain.name.lower(): domain for domain in Domain}


@dataclass(frozen=True, slots=True)
class VjpRule:
    """A VJP under test, made by ``vjp_of``; ``gradharness fuzz`` finds it at the top of a file.

    Calling it calls the VJP.

    Attributes:
        name: The VJP's own.
        op: With this VJP in it.
        ops: The catalogue with this op under test; all others are trusted.
    """

    name: str
    op: Op
    ops: Catalogue

    # Tells the command line what this is without an import.
    __gradharness_rule__ = True

    @property
    def __wrapped__(self) -> Vjp:
        """The VJP itself."""
        return self.op.vjp

    def __call__(self, *arguments: Any) -> Any:
        """What the VJP returns."""
        return self.op.vjp(*arguments)

    def search(self, *, count: int = 400, seed: int = 0) -> ProgramFinding | None:
        """Tries the VJP alone and within random programs.

        Args:
            count: Most programs to look at.
            seed: Gives the same programs again.

        Returns:
            What is wrong, whose text is the report; None if nothing was found.

        Raises:
            UsageError: If no program could use the op, so that nothing was tried; or if its forward does what no
                forward may, such as writing into an operand.
        """
        return search(self.ops, seed=seed, count=count)

    def replay(self, literal: Sequence[object]) -> ProgramFinding | None:
        """Tries the VJP within one program.

        Args:
            literal: The program, as a report prints it.

        Returns:
            What is wrong in just this program; None if nothing is.

        Raises:
            UsageError: If this is no program, or names an op that there is not.
        """
        seen = see(Program.from_literal(literal), self.ops)
        return None if seen.guilty is None else finding(seen, self.ops)


def vjp_of(
    op: str | Callable[..., object],
    *,
    arity: int | None = None,
    domains: Sequence[str] = (),
    outputs: int = 1,
    broadcasts: bool = True,
    complex: bool = False,
) -> Callable[[Vjp], VjpRule]:
    """Marks a function as the VJP of an op, to be tested alone and within programs of trusted ops.

    The function is called as ``vjp(call, *cotangents)``, with one cotangent for each output. ``call.inputs`` and
    ``call.outputs`` are what forward took and gave, ``call.x`` and ``call.y`` the first of each, ``call.parameters``
    the keywords of a catalogue op. It returns one gradient for each operand (a tensor, or None), in a tuple where
    there are several operands, each of its operand's shape (``g.sum_to_size(x.shape)`` undoes broadcasting).

    Args:
        op: Name of a catalogue op (``gradharness list --ops``); or the forward, in differentiable torch operations,
            for operands of any shapes. Where it raises, programs do without it.
        arity: Number of operands of a forward; by default the positional parameters that have no default value.
        domains: Of each operand of a forward, where its values lie: "real" (within ±4), "positive", "unit" (within
            ±0.9), "nonzero", "above_one", "spd", "well_conditioned", "lower". Those left out are real.
        outputs: How many tensors a forward returns.
        broadcasts: Whether operands of a forward have to broadcast.
        complex: Whether the VJP is meant for complex operands as well.

    Returns:
        A decorator that makes a ``VjpRule``.

    Raises:
        UsageError: If there is no such op or domain, or a setting does not fit the op.
    """
    if isinstance(op, str):
        if arity is not None or domains or outputs != 1 or not broadcasts:
            raise UsageError(f"vjp_of({op!r}): arity, domains, outputs and broadcasts are settled for a catalogue op")
        known = catalogue().find(op)
        if complex and not known.complex:
            raise UsageError(f"vjp_of({op!r}, complex=True): this op takes no complex operands; leave complex out")
        known = replace(known, complex=complex)
        return lambda vjp: _rule(replace(known, vjp=vjp), vjp)
    if not callable(op):
        raise UsageError(f"vjp_of({op!r}): give the name of a catalogue op, or a forward")
    count = _arity(op) if arity is None else arity
    kinds = tuple(_domain(name) for name in domains)
    if not count >= 1 or len(kinds) > count or outputs < 1:
        raise UsageError(
            f"vjp_of: arity={count}, outputs={outputs}, {len(kinds)} domains: at least one, and a domain each"
        )

    def make(vjp: Vjp) -> VjpRule:
        name = _name(vjp)
        code, definition = call_source(name, op, count)
        own = Op(
            name=name,
            forward=OwnForward(name, op, outputs),
            vjp=vjp,
            code=code,
            formula="the user's",
            arity=count,
            domains=kinds,
            outputs=outputs,
            same_shape=broadcasts,
            kinks="where the user knows",  # so that a difference counts only if it recurs beside the point
            complex=complex,
            definition=definition,
        )
        return _rule(own, vjp)

    return make


def _rule(op: Op, vjp: Vjp) -> VjpRule:
    if not callable(vjp):
        raise UsageError(f"vjp_of({op.name!r}) decorates a function; it got {vjp!r}")
    return VjpRule(_name(vjp), op, catalogue().added(op))


def _name(vjp: Vjp) -> str:
    return str(getattr(vjp, "__name__", type(vjp).__name__))


def _domain(name: str) -> Domain:
    if name not in _DOMAINS:
        raise UnknownNameError("domain", str(name), _DOMAINS)
    return _DOMAINS[name]


def _arity(forward: Callable[..., object]) -> int:
    """Positional parameters without a default value."""
    try:
        parameters = list(inspect.signature(forward).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    if not parameters or any(p.kind is p.VAR_POSITIONAL for p in parameters):
        raise UsageError(f"vjp_of({forward!r}): its number of operands is not to be seen; give arity=")
    return sum(p.kind <= p.POSITIONAL_OR_KEYWORD and p.default is p.empty for p in parameters)
