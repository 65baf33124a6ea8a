"""Code that trains, followed step by step: a class with an update of its own, or a loop over batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from gradharness.errors import SubjectError, UsageError, first_line
from gradharness.model.subject import Gradients, Primals, Subject, Tensors
from gradharness.model.training import Course, Incident, Moment, Twin
from gradharness.numerics import tree
from gradharness.subjects.calls import call_backward, tensor_outputs
from gradharness.subjects.manual_class import ManualSubject, method, set_state
from gradharness.subjects.training_objects import Bystander, Parameters, built, made_in, place

_SEED = 0  # of what a fresh object draws, its start excepted; the caller's random state is kept by the runner


def training_of(subject: Subject) -> Training | None:
    """How a subject trains; None if it does not, or does not say with which optimiser."""
    seed = None
    while not isinstance(subject, ManualSubject) and hasattr(subject, "subject"):  # metered
        seed = getattr(subject, "seed", None)
        subject = subject.subject
    if not isinstance(subject, ManualSubject) or subject.optimizer is None:
        return None
    return Training(subject, seed)


@dataclass(frozen=True, slots=True)
class Training:
    """How a subject trains.

    Attributes:
        subject: The class, or the loop.
        seed: Set before every step if not None: the subject draws random numbers.
    """

    subject: ManualSubject
    seed: int | None

    @property
    def parameters(self) -> tuple[str, ...]:
        """What is trained."""
        return self.subject.state

    def follow(self, points: Sequence[Primals], weights: Tensors, start: Tensors) -> Course:
        """Trains a fresh object from a start, one step for each point (or for several, if they are accumulated).

        Args:
            points: The batches.
            weights: Cotangents of the outputs, where backward takes them.
            start: Values of the parameters.
        """
        with made_in(start[0].dtype, start[0].device):
            other, obj = self._fresh(start[0]), self._fresh(start[0])
            original = Bystander.of(other)
            try:
                for path, value in zip(self.parameters, start, strict=True):
                    place(obj, path, value)
                bystander = Bystander.of(other)  # what is shared has been given its start as well
                course = self._ran(obj, points, weights)
                return replace(course, incidents=(*bystander.incidents(), *course.incidents))
            finally:
                original.restore()

    def twin(self, start: Tensors) -> Twin:
        """The subject's own forward for autograd, on an object that is not trained."""
        with made_in(start[0].dtype, start[0].device):
            obj = self._fresh(start[0])
        if self.subject.loop is not None:
            for path, value in zip(self.parameters, start, strict=True):
                place(obj, path, value)
            leaves = Parameters.of(obj, self.parameters).tensors
        else:
            leaves = tuple(value.clone().requires_grad_() for value in start)
            for path, leaf in zip(self.parameters, leaves, strict=True):
                set_state(obj, path, leaf)

        def objective(point: Primals) -> Tensors:
            self.reseed()
            with torch.enable_grad():
                value = self.subject.value_of(obj, point.values)
            return tuple(t for t in tensor_outputs(value, self.subject.name)[0] if t.requires_grad)

        return Twin(parameters=leaves, objective=objective)

    def made_optimizer(self, parameters: Tensors) -> torch.optim.Optimizer:
        """The user's optimiser on these parameters.

        Raises:
            UsageError: If it cannot be made, or needs a closure.
        """
        assert self.subject.optimizer is not None
        who = f"optimizer= of {self.subject.name}"
        try:
            made = self.subject.optimizer(list(parameters))
        except Exception as error:
            raise UsageError(
                f"{who} raises {type(error).__name__}: {first_line(error)}; give a function of a list of parameters, "
                "such as lambda params: torch.optim.SGD(params, lr=0.01)"
            ) from error
        if not isinstance(made, torch.optim.Optimizer):
            raise UsageError(f"{who} returns {type(made).__name__}: return a torch.optim.Optimizer")
        if isinstance(made, torch.optim.LBFGS):
            raise UsageError(f"{who} is LBFGS, which evaluates the loss several times a step: no step can be compared")
        return made

    def reseed(self) -> None:
        """Gives a subject that draws random numbers the same ones again."""
        if self.seed is not None:
            torch.manual_seed(self.seed)

    def makes_equals(self, start: Tensors) -> bool:
        """Whether two fresh objects hold the same numbers; what else they draw than torch's cannot be repeated."""
        with made_in(start[0].dtype, start[0].device):
            first, second = (Bystander.of(self._fresh(start[0])) for _ in range(2))
        return first.holds(second)

    def _fresh(self, like: torch.Tensor) -> Any:
        """A fresh object, the same one every time: what is drawn beside the parameters is a part of the function."""
        torch.manual_seed(_SEED)
        return built(self.subject.build, like)

    def _ran(self, obj: Any, points: Sequence[Primals], weights: Tensors) -> Course:
        record = _Record(Parameters.of(obj, self.parameters), points, self.subject.accumulate)
        batches = _Batches(self, record)
        try:
            if self.subject.loop is not None:
                call_backward(self.subject.loop, (obj, batches))
            else:
                for point in batches.points():
                    left = self._backward(obj, self._standing(record, point), weights)
                    record.left.append(tuple(None if g is None else g.detach().clone() for g in left))
                    self._update(obj)
            record.look()
        except SubjectError as error:
            return record.course(error)
        return record.course(None)

    def _standing(self, record: _Record, point: Primals) -> Primals:
        """The point with the parameters as they are now, which alone are differentiated."""
        first = len(point.values) - len(self.parameters)
        active = tuple((number,) for number in range(first, len(point.values)))
        return Primals(point.names, (*point.values[:first], *record.parameters.now()), active)

    def _backward(self, obj: Any, point: Primals, weights: Tensors) -> Gradients:
        linearization = self.subject.linearize_on(obj, point)
        return linearization.pullback(weights or tuple(torch.ones_like(y) for y in linearization.cotangent_like))

    def _update(self, obj: Any) -> None:
        update = self.subject.optimize
        assert update is not None
        if isinstance(update, str):
            call_backward(method(obj, update), ())
        else:
            call_backward(update, (obj,))


@dataclass(slots=True)
class _Record:
    """What is seen of a run, at every place where a step ends.

    Attributes:
        parameters: Of the object that trains.
        points: The batches.
        every: How many of them make a step.
        seen: The parameters at the start and after every batch.
        left: Gradients after every batch.
    """

    parameters: Parameters
    points: Sequence[Primals]
    every: int
    seen: list[Tensors] = field(default_factory=list)
    left: list[Gradients] = field(default_factory=list)
    used: list[Primals] = field(default_factory=list)
    found: dict[tuple[str, object], Incident] = field(default_factory=dict)

    def look(self) -> None:
        """Takes down what the parameters are now."""
        step = max(len(self.seen) - 1, 0) // self.every
        if self.parameters.disturbed():
            for incident in self.parameters.incidents(step):
                self.found.setdefault((incident.label, incident.kind), incident)
        now = self.parameters.now()
        self.seen.append(tuple(t.detach().clone() if isinstance(t, torch.Tensor) else torch.empty(0) for t in now))

    def course(self, raised: SubjectError | None) -> Course:
        """All of it, as far as the parameters kept their shapes."""
        moments = []
        for step in range((len(self.seen) - 1) // self.every):
            first, last = step * self.every, (step + 1) * self.every
            before, after = self.seen[first], self.seen[last]
            if any(a.shape != b.shape or a.dtype is not b.dtype for a, b in zip(after, before, strict=True)):
                break
            left = self.left[last - 1] if last <= len(self.left) else (None,) * len(before)
            moments.append(Moment(points=tuple(self.used[first:last]), before=before, after=after, left=left))
        return Course(
            moments=tuple(moments),
            incidents=tuple(self.found.values()),
            raised=raised,
        )


@dataclass(slots=True)
class _Batches:
    """What a loop goes through: whenever it asks for the next batch, the step before is done."""

    training: Training
    record: _Record

    def __len__(self) -> int:
        return len(self.record.points)

    def __iter__(self) -> Iterator[tuple[object, ...]]:
        count = len(self.training.subject.state)
        for point in self.points():
            yield point.values[: len(point.values) - count]
            tensors = self.record.parameters.now()
            self.record.left.append(tuple(None if t.grad is None else t.grad.detach().clone() for t in tensors))

    def points(self) -> Iterator[Primals]:
        """The batches, as copies, for the subject to do with as it likes."""
        for point in self.record.points:
            self.record.look()
            self.record.used.append(point)
            self.training.reseed()
            yield Primals(point.names, tree.map_tensors(torch.clone, point.values), point.active)
