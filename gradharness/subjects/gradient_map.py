"""The gradient itself as a subject: primals and cotangents in, gradients out. Its backward is the second derivative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gradharness.errors import BackwardRaised, OracleUnavailable
from gradharness.model.subject import Gradients, Linearization, Primals, RawReturn, Subject, Tensors
from gradharness.subjects.calls import call_backward
from gradharness.subjects.custom_nodes import graph_nodes
from gradharness.subjects.reverse import attached, vector_jacobian

# The node that ``once_differentiable`` leaves behind. It is not on the way to the leaves, so that autograd passes it by
# where it is asked for their gradients alone.
_REFUSAL = "torch::autograd::Error"
REFUSED = "backward is marked @once_differentiable"


@dataclass(frozen=True, slots=True)
class GradientMap:
    """(x, w) -> wᵀJ(x) of some subject. Its pullback differentiates the subject's backward once more.

    Its primals are the subject's own arguments followed by one cotangent each for ``weights`` outputs.

    Attributes:
        subject: Whose gradient it is.
        weights: Number of cotangents.
        present: Numbers of the leaves for which there is a gradient; the others give no output.
    """

    subject: Subject
    weights: int
    present: tuple[int, ...]

    @property
    def name(self) -> str:
        """How reports call it."""
        return f"the gradient of {self.subject.name}"

    @property
    def fixed_cotangent(self) -> bool:
        """Any cotangent may be asked for."""
        return False

    def outputs(self, primals: Primals) -> Tensors:
        """The gradients, without a graph; zero where none came."""
        inner = self._inner(primals)
        cotangents = primals.leaves[len(inner.active) :]
        gradients = self.subject.linearize(inner).pullback(cotangents)
        return self._filled(gradients, inner)

    def linearize(self, primals: Primals) -> Linearization:
        """The gradients, and the pullback through the subject's backward.

        Raises:
            BackwardRaised: If backward refuses to be recorded; the pullback, if it refuses to be differentiated.
            OracleUnavailable: If the subject has no graph.
        """
        inner = self._inner(primals)
        leaves = attached([x.clone() for x in primals.leaves])
        gradients = self._recorded(inner, leaves)
        outputs = self._filled(gradients, inner)

        def pullback(cotangents: Sequence[torch.Tensor]) -> Gradients:
            pairs = [(g, u) for g, u in zip(outputs, cotangents, strict=True) if g.requires_grad]
            if any(node.name() == _REFUSAL for node in graph_nodes([g for g, _ in pairs])):
                raise BackwardRaised(RuntimeError(REFUSED))
            return vector_jacobian([g for g, _ in pairs], leaves, [u for _, u in pairs])

        labels = tuple(f"gradient for {inner.labels[i]}" for i in self.present)
        numbers = tuple(range(len(outputs)))
        return Linearization(tuple(g.detach() for g in outputs), labels, numbers, pullback)

    def traced(self, primals: Primals, leaves: Tensors) -> Tensors | None:
        """The gradients with their graph, those that have one."""
        inner = self._inner(primals)
        return tuple(g for g in self._filled(self._recorded(inner, leaves), inner) if g.requires_grad)

    def session(self, primals: Primals) -> None:
        """There is no object."""

    def raw_returns(self, primals: Primals, cotangents: Sequence[torch.Tensor]) -> tuple[RawReturn, ...]:
        """Nobody hands anything to autograd here."""
        return ()

    def own_forward(self) -> Subject | None:
        """There is none: the map is somebody's backward."""
        return None

    def _inner(self, primals: Primals) -> Primals:
        """The subject's own point within the map's."""
        count = self.weights
        return Primals(primals.names[:-count], primals.values[:-count], primals.active[:-count])

    def _recorded(self, inner: Primals, leaves: Tensors) -> Gradients:
        count = len(inner.active)
        outputs = self.subject.traced(inner, leaves[:count])
        if outputs is None:
            raise OracleUnavailable(f"{self.subject.name} is not behind autograd")
        if [y.shape for y in outputs] != [w.shape for w in leaves[count:]]:
            raise OracleUnavailable(f"{self.subject.name} has other outputs here")

        def run() -> Gradients:
            return torch.autograd.grad(outputs, leaves[:count], leaves[count:], create_graph=True, allow_unused=True)

        gradients: Gradients = call_backward(run, ())  # type: ignore[assignment]
        return gradients

    def _filled(self, gradients: Gradients, inner: Primals) -> Tensors:
        found = []
        for number in self.present:
            g = gradients[number]
            found.append(torch.zeros_like(inner.leaves[number]) if g is None else g)
        return tuple(found)
