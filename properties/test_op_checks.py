"""A few of the catalogue's ops through all checks; all of them with ``python -m properties.op_checks``."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gradharness.programs.op import Domain, Op
from gradharness.programs.ops import all_ops, find_op
from properties.op_checks import CHECKS, DEFECTS, Defect, chosen, line, reference, row, subject, summary, uses

pytestmark = pytest.mark.filterwarnings("ignore")

EVERY_OP = pytest.mark.parametrize("op", all_ops(), ids=lambda op: op.name)


@pytest.mark.parametrize("op", chosen(count=12, seed=1), ids=lambda op: op.name)
def test_an_ops_vjp_passes_every_check(op: Op) -> None:
    found = row(op)
    assert not found.failed, found.said
    assert set(found.cells) == set(CHECKS)
    assert found.cells["vjp"] == "PASS"


@EVERY_OP
def test_the_subject_has_the_gradient_of_its_reference(op: Op) -> None:
    """At the examples: that the search starts within what the op takes, and the Function is one that autograd takes."""
    found = uses(op)
    assert len(found) >= 2 or op.parameters(found[0].shapes, 0) == {}
    for use in found:
        gradients = []
        for function in (subject(use), reference(use)):
            call = getattr(function, "apply", function)
            leaves = use.examples(0)
            outputs = call(*leaves)
            outputs = [y for y in (outputs if isinstance(outputs, tuple) else (outputs,)) if y.requires_grad]
            weights = [torch.linspace(1, 2, y.numel(), dtype=y.dtype).reshape(y.shape) for y in outputs]
            gradients.append(torch.autograd.grad(outputs, leaves, weights, allow_unused=True, materialize_grads=True))
        for mine, right in zip(*gradients, strict=True):
            torch.testing.assert_close(mine, right, rtol=1e-9, atol=1e-9, msg=str(use))


@EVERY_OP
def test_specs_and_domains_are_one_for_each_operand(op: Op) -> None:
    for use in uses(op):
        assert len(use.inputs(0)) == op.arity
        if not use.dtype.is_complex and any(op.domain(i) is not Domain.REAL for i in range(op.arity)):
            assert isinstance(use.inputs(0), dict)


def test_a_wrong_vjp_fails_and_a_missing_place_is_not_a_pass() -> None:
    tanh = find_op("tanh")
    wrong = row(replace(tanh, vjp=lambda call, g: g * (1 - call.y)), checks=("vjp", "mask"))
    assert wrong.cells == {"vjp": "FAIL", "mask": "-"}
    assert wrong.failed
    assert wrong.told[0].startswith("FAIL vjp: torch.tanh(x) of ")
    assert "FAIL" in line(wrong)
    assert "1 fail a check" in summary([wrong], ("vjp", "mask"))


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.op)
def test_a_defect_of_pytorch_is_still_there(defect: Defect) -> None:
    assert defect.shown(), f"mended: {defect.reason}"


def test_a_traceback_is_a_failure() -> None:
    def forward(_x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("broken")

    broken = row(replace(find_op("tanh"), forward=forward), checks=("vjp",))
    assert broken.failed
    assert "broken" in broken.told[0]
