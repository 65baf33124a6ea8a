"""The check ``module`` rejects each way of keeping or using tensors wrongly, and accepts the twin that does not."""

import re
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from gradharness import Fault, Severity, Verdict, check, module
from tests.checks import modules as m

ERROR, WARNING = Severity.ERROR, Severity.WARNING
DEVICE = pytest.param("cuda", marks=pytest.mark.cuda)


def x(*shape):
    return torch.randn(*(shape or (5, 4)), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@dataclass(frozen=True)
class Use:
    """A mistake, its twin, and what is said of the mistake."""

    wrong: object
    right: object
    fault: Fault
    says: tuple[str, ...]
    severity: Severity = ERROR


USES = [
    Use(m.PlainTensorThatRequiresGrad, m.Layer, Fault.UNREGISTERED, ("`weight`", "torch.nn.Parameter")),
    Use(m.ParameterInAList, m.ParameterInAParameterList, Fault.UNREGISTERED, ("`weights[0]`", "ParameterList")),
    Use(m.ParameterInATuple, m.ParameterInAParameterList, Fault.UNREGISTERED, ("`weights[0]`", "ParameterList")),
    Use(m.ParameterInADict, m.ParameterInAParameterDict, Fault.UNREGISTERED, ("`weights['first']`", "ParameterDict")),
    Use(m.ModulesInAList, m.ModulesInAModuleList, Fault.UNREGISTERED, ("`layers[0].weight`", "ModuleList")),
    Use(m.ModulesInADict, m.ModulesInAModuleDict, Fault.UNREGISTERED, ("`blocks['a'].weight`", "ModuleDict")),
    Use(m.ScaledParameter, m.Layer, Fault.UNREGISTERED, ("`weight`", "wrap the result")),
    Use(m.LearnableBuffer, m.DrawnAndSaved, Fault.UNREGISTERED, ("buffer `weight`", "requires grad")),
    Use(m.LayerMadeInForward, m.LayerMadeOnce, Fault.MADE_IN_FORWARD, ("shape [2, 4]", "in __init__")),
    Use(m.DrawnAndNotSaved, m.DrawnAndSaved, Fault.NOT_SAVED, ("`projection`", "register_buffer")),
    Use(m.DrawnAndNotPersistent, m.DrawnAndSaved, Fault.NOT_SAVED, ("`projection`",)),
    Use(m.DropsAKey, m.Layer, Fault.NOT_SAVED, ("load_state_dict(state_dict()) raises", "Missing key")),
    Use(m.KeepsTheProduct, m.KeepsItForReading, Fault.NOT_SAVED, ("run before", "outputs")),
    Use(m.MaskLeftBehind, m.MaskInABuffer, Fault.LEFT_BEHIND, ("`mask`", "register_buffer"), WARNING),
    Use(m.MatrixOfOneDtype, m.MatrixThatFollows, Fault.LEFT_BEHIND, ("`mixing`", ".to("), WARNING),
    Use(m.DeadParameter, m.ScaleInUse, Fault.DEAD_PARAMETER, ("no path", "`scale`"), WARNING),
    Use(m.TimesZero, m.ScaleInUse, Fault.DEAD_PARAMETER, ("is zero", "`scale`"), WARNING),
    Use(m.ForgetfulZeroGrad, m.OwnZeroGrad, Fault.NOT_CLEARED, ("`weight`",)),
    Use(m.SharesOnDeepcopy, m.CopiesItself, Fault.WRONG_COPY, ("a deep copy", "outputs")),
    Use(m.RemembersItself, m.LooksItUp, Fault.WRONG_COPY, ("`weight`", "past the registry")),
    Use(m.ForgetsOnPickling, m.Layer, Fault.WRONG_COPY, ("copy of the module", "__getstate__")),
    Use(m.DropoutInEvalMode, m.DropoutInTrainMode, Fault.MODE_DEPENDENT, ("training=self.training",), WARNING),
    Use(m.OtherFunctionInEvalMode, m.Layer, Fault.MODE_DEPENDENT, ("self.training",), WARNING),
]


# Of what each kind of script shows, one.
SHOWN = (
    m.ParameterInAList, m.DrawnAndNotSaved, m.KeepsTheProduct, m.TimesZero, m.ForgetfulZeroGrad,
    m.ForgetsOnPickling, m.DropoutInEvalMode, m.OtherFunctionInEvalMode, m.MaskLeftBehind,
)  # fmt: skip


def findings(subject, *inputs, **options):
    report = check(subject, inputs or (x(),), checks=("module",), seed=0, **options)
    return report, report.findings


@pytest.mark.parametrize("use", USES, ids=lambda use: use.wrong.__name__)
def test_a_mistake_is_named(use):
    report, found = findings(use.wrong)
    chosen = [f for f in found if f.fault is use.fault]
    assert chosen, [f.message for f in found]
    assert [chosen[0].severity, report.verdict] == [
        use.severity,
        Verdict.FAIL if use.severity is ERROR else Verdict.PASS,
    ]
    assert all(part in chosen[0].message for part in use.says), chosen[0].message


@pytest.mark.parametrize("right", dict.fromkeys(use.right for use in USES), ids=lambda right: right.__name__)
def test_the_twin_without_it_passes_in_silence(right):
    report, found = findings(right)
    assert [report.verdict, [f.message for f in found]] == [Verdict.PASS, []]


UNUSUAL = [
    m.CausalMask, m.Positions, m.PlainPositions, m.ListOfDicts, m.KeepsItsOutput, m.FrozenHalf, m.FrozenParameter,
    m.CountsCalls, m.weight_norm, m.dropout, m.batch_norm,
]  # fmt: skip


@pytest.mark.parametrize("factory", UNUSUAL, ids=lambda factory: factory.__name__)
@pytest.mark.parametrize("built", [False, True], ids=["factory", "instance"])
def test_what_is_right_and_unusual_passes_in_silence(factory, built):
    report, found = findings(module(factory() if built else factory))
    assert [report.verdict, [f.message for f in found]] == [Verdict.PASS, []]


def test_tied_weights_are_one_primal():
    report, found = findings(m.Tied, torch.tensor([[0, 3, 5], [1, 2, 4]]))
    assert [report.verdict, found] == [Verdict.PASS, ()]
    assert sum("weight" in line for line in report.domain) == 1


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
def test_a_weight_that_a_hook_computes_is_no_stray():
    report, found = findings(module(m.old_weight_norm))
    assert [report.verdict, [f.message for f in found]] == [Verdict.PASS, []]


def status(script):
    """How the stand-alone script ends."""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode


@pytest.mark.parametrize("use", [use for use in USES if use.wrong in SHOWN], ids=lambda use: use.wrong.__name__)
def test_a_script_shows_the_mistake_and_not_the_twin(use):
    script = next(f for f in findings(use.wrong)[1] if f.fault is use.fault).reproducer
    assert status(script) == 1
    twin = re.sub(rf"\b{use.wrong.__name__}\b", use.right.__name__, script)
    assert status(twin) == 0


# --- instances ----------------------------------------------------------------------------------------------------


def test_of_a_built_module_a_constant_that_looks_drawn_is_a_warning():
    report, found = findings(m.DrawnAndNotSaved())
    assert [report.verdict, found[0].severity, found[0].fault] == [Verdict.PASS, WARNING, Fault.LIKE_A_WEIGHT]
    assert "`projection`" in found[0].message


def test_a_table_that_is_computed_does_not_look_drawn():
    class Scaled(m.Layer):
        def __init__(self, table):
            super().__init__()
            self.table = table

        def forward(self, x):
            return super().forward(x * self.table.to(x))

    tables = [torch.linspace(-1, 1, 4), torch.ones(4), torch.tensor([1.0, -1.0, 1.0, -1.0]), m.Positions().table[3]]
    for table in tables:
        assert not [f for f in findings(Scaled(table))[1] if f.fault is Fault.LIKE_A_WEIGHT]


# --- rows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factory", "train"),
    [(m.MixesRows, None), (m.MixesRowsUnseen, None), (m.batch_norm, True)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_rows_that_are_claimed_to_be_independent_are(factory, train):
    report, found = findings(module(factory, train=train, independent_rows=True))
    assert report.verdict is Verdict.FAIL
    assert found[0].fault is Fault.ROWS_MIXED
    assert ("batch statistics" in found[0].message) is (factory is m.batch_norm)
    assert findings(module(factory, train=train))[0].verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("factory", "train"), [(m.Layer, None), (m.CentresRows, None), (m.batch_norm, False), (m.dropout, True)]
)
def test_rows_that_are_independent_pass(factory, train):
    assert findings(module(factory, train=train, independent_rows=True))[1] == ()


# --- building -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", [m.NoSuper, m.NoSuperAndALayer, m.NoSuperAndNothing])
def test_a_module_without_its_super_call_is_a_finding(factory):
    report = check(factory, (x(),), seed=0)
    assert report.verdict is Verdict.FAIL
    assert [(f.check, f.fault) for f in report.findings] == [("module", Fault.NOT_INITIALISED)]
    assert "call super().__init__() first" in report.findings[0].message
    assert {r.verdict for r in report.results if r.check != "module"} == {Verdict.SKIPPED}


def test_any_other_error_in_building_is_a_finding_too():
    report = check(m.BreaksInInit, (x(),), seed=0, checks=("vjp", "module"))
    assert [report.verdict, report.findings[0].fault] == [Verdict.FAIL, Fault.BUILD_RAISES]
    assert "RuntimeError" in report.findings[0].message
    assert check(m.BreaksInInit, (x(),), seed=0, checks=("vjp",)).verdict is Verdict.UNDECIDED


# --- what it does not apply to ------------------------------------------------------------------------------------


def test_what_is_no_module_is_skipped_with_the_reason():
    result = check(torch.exp, (x(),), checks=("module",), seed=0).results[0]
    assert [result.verdict, result.reason] == [Verdict.SKIPPED, "the subject is no torch.nn.Module"]


@pytest.mark.parametrize("device", [DEVICE])
def test_it_runs_on_a_device(device):
    right = check(nn.Linear(4, 3), (x(),), checks=("vjp", "module"), devices=(device,), seed=0)
    assert right.verdict is Verdict.PASS
    wrong = check(m.ModulesInAList, (x(),), checks=("module",), devices=("cpu", device), seed=0)
    assert wrong.results[0].findings[0].fault is Fault.UNREGISTERED
