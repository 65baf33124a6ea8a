"""What was decided, and why: verdicts, discrepancies, findings, witnesses."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum

import torch

from gradharness.model.case import Case
from gradharness.model.exhibit import Drawing, Exhibit
from gradharness.numerics import tree


class Verdict(Enum):
    """Outcome of a check. The value is the sentence that a report prints for it."""

    PASS = "no error above the stated resolution"
    FAIL = "the gradient is wrong beyond what all known errors can explain"
    UNDECIDED = "the oracles' error is wider than the tolerance; this is not a pass"
    SKIPPED = "does not apply here"


class Severity(StrEnum):
    """An error fails a check; a warning is shown, and fails only when strict."""

    ERROR = "error"
    WARNING = "warning"


class Fault(StrEnum):
    """What is wrong, in one or two words. The finding's message has the particulars."""

    CONSTANT_FACTOR = "constant factor"
    SIGN = "sign"
    ZERO_GRADIENT = "zero gradient"
    MISSING_GRADIENT = "missing gradient"
    COTANGENT_IGNORED = "cotangent ignored"
    NOT_LINEAR = "not linear in the cotangent"
    OUTPUT_DROPPED = "output's cotangent dropped"
    OUTPUTS_CROSSED = "outputs' cotangents crossed"
    TRANSPOSED = "transposed"
    MISSING_CONJUGATE = "missing conjugate"
    WRONG_FOR_COMPLEX = "wrong for complex numbers"
    MISSING_REDUCTION = "missing reduction"
    EXTRA_REDUCTION = "extra reduction"
    WRONG_AXIS = "wrong axis"
    MISSING_TERM = "missing term"
    EXTRA_TERM = "extra term"
    MISSING_FACTOR = "missing factor"
    EXTRA_FACTOR = "extra factor"
    WRONG_OPERAND = "wrong operand"
    WRONG_FORMULA = "right for another formula"
    DUPLICATES = "duplicates not accumulated"
    SWAPPED_GRADIENTS = "other argument's gradient"
    WRONG_REGION = "wrong in a region"
    WRONG_FOR_SHAPE = "wrong for some shapes"
    WRONG_FOR_ARGUMENT = "wrong for some values of an argument"
    WRONG_ELEMENTS = "wrong elements"
    NON_FINITE = "not finite"
    WRONG_AT_EXTREME = "wrong at an extreme value"
    PRECISION_LOST = "precision lost"
    LOW_INTERNALS = "computed in a lower precision"
    WRONG_SHAPE = "wrong shape"
    WRONG_DTYPE = "wrong dtype"
    WRONG_DEVICE = "wrong device"
    WRONG_COUNT = "wrong number of gradients"
    WRONG_TYPE = "not a tensor"
    UNEXPECTED_GRADIENT = "gradient for an input that has none"
    WRITES_INPUT = "writes into its inputs"
    WRONG_FORWARD = "wrong forward"
    SECOND_ORDER = "wrong second derivative"
    WRONG_JVP = "wrong forward-mode derivative"
    WRONG_VMAP = "wrong under vmap"
    WRONG_TRANSFORM = "wrong under a transform"
    HIDDEN_TENSOR = "tensor hidden from saved-tensor hooks"
    CUSTOM_OP = "custom op's registration"
    FORWARD_RAISES = "forward raises"
    BACKWARD_RAISES = "backward raises"
    DISCONNECTED = "output not connected to its inputs"
    STALE_STATE = "state of another call"
    OVERWRITTEN = "result overwritten by a later call"
    NOT_ACCUMULATED = "not accumulated"
    LAYOUT = "depends on the layout"
    WRONG_SUBSET = "depends on what else is asked for"
    NOT_DETERMINISTIC = "not deterministic"
    REFERENCE_CYCLE = "reference cycle"
    MEMORY_GROWTH = "memory grows from call to call"
    GLOBAL_STATE = "changes global state"
    UNNOTICED_EDIT = "in-place edit goes unnoticed"
    WRONG_GRADIENT = "wrong gradient in training"
    STALE_GRADIENT = "stale gradient"
    WRONG_AVERAGE = "wrong averaging"
    WRONG_UPDATE = "wrong update"
    LOST_UPDATE = "update lost"
    UPDATE_ORDER = "order of the updates"
    RESHAPED_WEIGHT = "update changes a weight's shape or dtype"
    REPLACED_WEIGHT = "weight replaced"
    SHARED_STATE = "state shared between objects"
    IN_CONTEXT = "wrong only inside a larger graph"
    NOT_INITIALISED = "module without its super().__init__()"
    BUILD_RAISES = "building raises"
    UNREGISTERED = "learnable tensor outside of the module's parameters"
    LIKE_A_WEIGHT = "constant that looks like a weight"
    MADE_IN_FORWARD = "parameter made anew in every call"
    LEFT_BEHIND = "tensor left behind by .to()"
    NOT_SAVED = "lost by saving and loading"
    DEAD_PARAMETER = "parameter without an effect"
    WRONG_COPY = "copy differs from its original"
    NOT_CLEARED = "gradient left by zero_grad"
    ROWS_MIXED = "rows of a batch depend on each other"
    MODE_DEPENDENT = "depends on train and eval mode"
    REFERENCE_SUSPECT = "the reference is the suspect"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrepancy:
    """One measured disagreement: of one gradient, one output, or of one rule of the contract.

    Attributes:
        label: Which gradient or output, such as ``weight`` or ``output[1]``.
        got: What the subject gave; None where it gave nothing.
        expected: What the oracle gives, same shape; None where only a direction was measured.
        bound: Tolerance per element (or one for the direction), in units of ``expected``.
        oracle: Name of the oracle that disagrees.
        excess: Largest |got - expected| / bound. Above 1 is beyond the error budget.
        fault: Set where the kind of fault is plain from the measurement itself.
        detail: The particulars, in words, where they are plain from the measurement itself.
        steps: Lines of Python that show the fault, where a plain backward does not: they stand in the reproducer in
            place of its comparison, and end in ``sys.exit``. They may use ``arguments`` (a dict), ``leaves``,
            ``cotangents``, ``outputs_of(arguments)``, a list of the outputs that have a cotangent, and
            ``start(arguments, leaves)``, which runs forward and returns a function of the cotangents that runs
            backward and gives a tensor for each leaf; without autograd that function has the ``outputs``, and of a
            manual class the object as ``obj``, which a third argument of ``start`` uses again. ``copy`` and
            ``itertools`` are imported where they are used.
        drawing: The program in which it shows, where it shows only in one.
    """

    label: str
    got: torch.Tensor | None = None
    expected: torch.Tensor | None = None
    bound: torch.Tensor | float = 0.0
    oracle: str = ""
    excess: float = float("inf")
    fault: Fault | None = None
    detail: str = ""
    steps: tuple[str, ...] = ()
    drawing: Drawing | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one check saw at one case.

    Attributes:
        verdict: PASS, FAIL or UNDECIDED at this case; SKIPPED where the case has nothing to say.
        discrepancies: Why it is a FAIL; the worst first.
        warnings: Discrepancies that do not fail by themselves.
        resolution: Smallest relative error that would have been a FAIL here; None if no claim.
        error: Largest error that was seen, in the units of ``resolution``; None where none was measured.
        reason: Why it is undecided or skipped.
        at: The case where the discrepancies show, where that is not the given one but one made of it: another layout,
            dtype or cotangent.
    """

    verdict: Verdict
    discrepancies: tuple[Discrepancy, ...] = ()
    warnings: tuple[Discrepancy, ...] = ()
    resolution: float | None = None
    error: float | None = None
    reason: str = ""
    at: Case | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """The smallest failing case that was found. It holds values, and the recipe that makes them.

    Attributes:
        arguments: (name, value) of every argument, tensors detached.
        cotangents: One per differentiable output.
        recipe: Plain JSON data from which the inputs layer makes the same case again.
        label: The gradient or output that is worst.
        index: Place of the worst element in it; None if the fault has no single place.
        expected: Oracle's value there.
        got: Subject's value there.
        bound: Tolerance there.
        active: Labels of the differentiated tensors, in the order of the gradients.
        outputs: Labels of the outputs that have a cotangent, in their order.
        whole: Everything that the oracle expects for ``label``; None if it knows only a direction.
        whole_bound: Tolerance per element of ``whole``.
        steps: As in ``Discrepancy``.
        drawn: The case of the recipe, where the check has made the failing one of it; None where they are the same.
        kept: Id of the kept witness that this is; empty where it was found in this run.
    """

    arguments: tuple[tuple[str, object], ...]
    cotangents: tuple[torch.Tensor, ...]
    recipe: dict[str, object]
    label: str = ""
    index: tuple[int, ...] | None = None
    expected: complex | float | None = None
    got: complex | float | None = None
    bound: float | None = None
    active: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    whole: torch.Tensor | None = None
    whole_bound: torch.Tensor | float = 0.0
    steps: tuple[str, ...] = ()
    drawn: Case | None = None
    kept: str = ""

    @property
    def elements(self) -> int:
        """Number of tensor elements in all arguments together."""
        values = (value for _, argument in self.arguments for _, value in tree.leaves(argument))
        return sum(v.numel() for v in values if isinstance(v, torch.Tensor))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is wrong, told to a person.

    Attributes:
        check: Name of the check that found it.
        fault: Kind of fault.
        severity: Error or warning.
        message: One sentence that names the fault with its particulars.
        evidence: Further sentences: worst element, share of wrong elements, oracles' values.
        witness: The smallest failing case; None where none can be shown.
        reproducer: Python source that needs only torch and the subject; exits 1 while the fault is there.
        exhibits: What was measured to show it, of those kinds that apply.
        replay: Command that looks at the kept witness again; empty where none was kept.
    """

    check: str
    fault: Fault
    severity: Severity
    message: str
    evidence: tuple[str, ...] = ()
    witness: Witness | None = None
    reproducer: str = ""
    exhibits: tuple[Exhibit, ...] = ()
    replay: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """Outcome of one check on one device in one dtype.

    Attributes:
        check: Name of the check.
        device: Such as "cpu".
        dtype: Such as "float64".
        verdict: PASS, FAIL, UNDECIDED or SKIPPED.
        findings: Empty unless something is wrong (or worth a warning).
        resolution: Smallest relative error that this check would have flagged; None if no claim.
        error: Largest error that it saw in a case that passed, in the units of ``resolution``: relative to the root
            mean square of what it is held against. None where it measures none.
        saved_bytes: What one forward keeps for its backward; measured with the check ``leak``, else None.
        cost_ratio: Time of forward and backward over that of the same derivative by autograd, of the reference or of
            the own forward; measured with the check ``vjp``, else None.
        examples: Cases that were examined.
        discarded: Cases that the forward (or the reference) rejected.
        undecided: Examined cases without a decision.
        seconds: Wall time of the check.
        inside: Part of ``seconds`` spent inside the subject's and the reference's own calls.
        calls: How many of these calls there were.
        reason: Why it was skipped or is undecided.
    """

    check: str
    device: str
    dtype: str
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    resolution: float | None = None
    error: float | None = None
    saved_bytes: int | None = None
    cost_ratio: float | None = None
    examples: int = 0
    discarded: int = 0
    undecided: int = 0
    seconds: float = 0.0
    inside: float = 0.0
    calls: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All results for one subject.

    Attributes:
        subject: Its name.
        results: One per check, device and dtype.
        domain: Lines that say which inputs were drawn, and how that was inferred.
        notes: What a reader must know to trust the verdict (self-reference, excluded outputs …).
        seed: Gives the same verdict again.
        profile: Name of the budget.
        environment: (name, value) pairs: versions, threads, device names.
        seconds: Wall time of the whole.
    """

    subject: str
    results: tuple[CheckResult, ...]
    domain: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seed: int = 0
    profile: str = "dev"
    environment: tuple[tuple[str, str], ...] = field(default=())
    seconds: float = 0.0

    @property
    def verdict(self) -> Verdict:
        """FAIL if any check fails; else UNDECIDED if any is, or if none passed; else PASS."""
        verdicts = {r.verdict for r in self.results}
        if Verdict.FAIL in verdicts:
            return Verdict.FAIL
        if Verdict.UNDECIDED in verdicts or Verdict.PASS not in verdicts:
            return Verdict.UNDECIDED
        return Verdict.PASS

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, errors before warnings, in the order of the checks."""
        found = [f for r in self.results for f in r.findings]
        return tuple(sorted(found, key=lambda f: f.severity is Severity.WARNING))

    def __str__(self) -> str:
        lines = [f"{self.subject}: {self.verdict.name} ({self.verdict.value})"]
        lines += [f"  {f.check}: {f.message}" for f in self.findings]
        return "\n".join(lines)
