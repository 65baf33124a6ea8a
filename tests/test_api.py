"""``check``, ``assert_gradients`` and ``gradient_test`` as users call them: right use, wrong use, and what they say."""

import sys

import pytest
import torch
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

from gradharness import (
    Fault,
    GradientError,
    Verdict,
    assert_gradients,
    check,
    gradient_test,
    index,
    manual,
    mask,
    pair,
    tensor,
)
from gradharness.errors import OutputError, SpecError, UnknownNameError, UsageError

X = torch.linspace(-1.2, 1.5, 12, dtype=torch.float64).reshape(3, 4).requires_grad_()
FAST = {"seed": 3, "checks": ("value", "vjp", "contract")}


def sine(x):
    return x.sin()


class Doubled(torch.autograd.Function):
    """y = sin x with twice its gradient."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, w):
        (x,) = ctx.saved_tensors
        return 2 * w * x.cos()


# --- wrong use: one line with value, place and remedy ------------------------------------------------------------

BAD_USE = {
    "check": (lambda: check(sine, (X,), checks=("vpj",)), UnknownNameError, "'vpj': did you mean 'vjp'"),
    "checks as text": (lambda: check(sine, (X,), checks="vjp"), UsageError, "checks='vjp': give a tuple"),
    "no checks": (lambda: check(sine, (X,), checks=()), UsageError, "checks is empty"),
    "device": (lambda: check(sine, (X,), devices=("cudaa",)), UnknownNameError, "did you mean 'cuda'"),
    "dtype": (lambda: check(sine, (X,), dtypes=("flot64",)), UnknownNameError, "did you mean 'float64'"),
    "profile": (lambda: check(sine, (X,), profile="cI"), UnknownNameError, "profile 'cI'"),
    "seed": (lambda: check(sine, (X,), seed=-1), UsageError, "seed=-1"),
    "seed of another type": (lambda: check(sine, (X,), seed=True), UsageError, "seed=True"),
    "time limit": (lambda: check(sine, (X,), time_limit=0), UsageError, "time_limit=0"),
    "malformed spec": (lambda: check(sine, {"x": "n  d,"}), SpecError, "'d,' in shape 'n  d,'"),
    "spec of no argument": (lambda: check(sine, {"z": "n"}), SpecError, "no argument 'z': its arguments: x"),
    "missing spec": (lambda: check(lambda x, y: x * y, {"x": "n"}), SpecError, "'y'"),
    "no inputs": (lambda: check(sine), SpecError, "argument 'x' has no spec"),
    "no inputs for a Function": (lambda: check(Doubled), SpecError, "Doubled needs inputs"),
    "inputs as text": (lambda: check(sine, "n d"), UsageError, "inputs='n d' (str)"),
    "nothing differentiable": (lambda: check(sine, (torch.arange(3),)), UsageError, "no differentiable input among x"),
    "forward raises": (lambda: check(lambda x: x @ x, (X,)), UsageError, "raises on the example inputs: RuntimeError"),
    "forward exits": (lambda: check(lambda x: sys.exit(3), (X,)), UsageError, "SystemExit: 3"),
    "reference raises": (lambda: check(sine, (X,), reference=lambda x: x @ x), UsageError, "the reference <lambda>"),
    "reference's outputs": (lambda: check(sine, (X,), reference=lambda x: (x, x)), UsageError, "returns 2 outputs"),
    "reference is a number": (lambda: check(sine, (X,), reference=3), UsageError, "cannot check 3 (int)"),
    "subject is a number": (lambda: check(3, (X,)), UsageError, "cannot check 3 (int)"),
    "forward gives None": (lambda: check(lambda x: None, (X,)), OutputError, "returned None"),
    "forward gives a number": (lambda: check(lambda x: 3.0, (X,)), OutputError, "returned 3.0 (float)"),
    "surrogate alone": (lambda: check(sine, (X,), surrogate=True), UsageError, "give reference="),
    "numpy": (lambda: check(sine, (X.detach().numpy(),)), UsageError, "raises on the example inputs"),
    "manual method": (lambda: check(manual(torch.nn.Tanh, gradients=dict), (X,)), UsageError, "no method 'backward'"),
    "decorator's spec": (lambda: gradient_test(x="n", y="n")(sine), SpecError, "no argument 'y'"),
    "decorator's check": (lambda: gradient_test(x="n", checks=("shap",)), UnknownNameError, "did you mean 'shape'"),
    "decorator's profile": (lambda: gradient_test(x="n", profile="dep"), UnknownNameError, "did you mean 'deep'"),
    "decorator without specs": (lambda: gradient_test(Doubled.apply), SpecError, "needs inputs"),
}


@pytest.mark.parametrize("name", BAD_USE)
def test_wrong_use_is_told_in_one_line(name):
    call, kind, text = BAD_USE[name]
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert text in message
    assert "\n" not in message


# --- right use ---------------------------------------------------------------------------------------------------


def test_a_wrong_gradient_fails_with_its_name():
    report = check(Doubled, (X,), **FAST)
    assert report.verdict is Verdict.FAIL
    assert report.findings[0].fault is Fault.CONSTANT_FACTOR
    assert "2 times" in report.findings[0].message
    assert "FAIL" in str(report)


def test_assert_gradients_raises_with_the_report():
    with pytest.raises(GradientError, match="constant factor"):
        assert_gradients(Doubled.apply, (X,), **FAST)
    assert_gradients(sine, (X,), **FAST)


def test_an_undecided_report_is_no_pass():
    with pytest.raises(GradientError, match="vacuous"):
        assert_gradients(lambda x: x * 0, (X,), **FAST)


def test_one_seed_gives_one_verdict_and_one_witness():
    first, second = (check(Doubled, (X,), seed=11).findings[0] for _ in range(2))
    assert first.message == second.message
    assert first.witness.recipe == second.witness.recipe
    assert [str(v) for _, v in first.witness.arguments] == [str(v) for _, v in second.witness.arguments]


def test_a_fresh_seed_is_drawn_and_named_unless_the_profile_is_ci():
    seeds = {check(sine, {"x": "n"}, checks=("contract",)).seed for _ in range(4)}
    assert len(seeds) > 1
    assert check(sine, {"x": "n"}, checks=("contract",), profile="ci").seed == 0


def test_a_subject_as_its_own_reference_proves_nothing_and_says_so():
    report = check(Doubled.apply, (X,), reference=Doubled.apply, **FAST)
    assert report.verdict is Verdict.FAIL
    assert any("proves nothing" in note for note in report.notes)


def test_global_random_state_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    check(torch.nn.functional.dropout, (X,), **FAST)
    assert torch.equal(torch.rand(3), expected)


def test_a_random_subject_is_seeded():
    assert check(torch.nn.functional.dropout, (X,), seed=1).verdict is Verdict.PASS


def test_a_single_tensor_is_a_tuple_of_one():
    assert check(sine, X, **FAST).verdict is Verdict.PASS


def test_a_mapping_of_examples_and_a_mapping_of_specs():
    def scaled(x, n, flag=True):
        return x * n if flag else x

    by_example = check(scaled, {"x": X, "n": 2.0}, **FAST)
    assert any("from the example" in line for line in by_example.domain)
    by_spec = check(scaled, {"x": "n d", "n": st.floats(0.5, 2)}, **FAST)
    assert any("declared" in line for line in by_spec.domain)
    assert by_example.verdict is by_spec.verdict is Verdict.PASS


def test_index_and_mask_specs():
    def chosen(x, rows, keep):
        return torch.where(keep, x[rows], 0.0)

    inputs = {"x": "n d", "rows": index("k", below="n"), "keep": mask("k d")}
    assert check(chosen, inputs, seed=2).verdict is Verdict.PASS


def test_jaxtyping_annotations_are_specs():
    @gradient_test()
    def product(x: Float[Tensor, "n d"], y: Float[Tensor, "d k"]):
        return x @ y

    assert product.run(seed=1).verdict is Verdict.PASS


def test_inputs_are_read_from_annotations_by_check_too():
    def product(x: Float[Tensor, "n d"], y: Float[Tensor, "d k"]):
        return x @ y

    assert check(product, **FAST).verdict is Verdict.PASS


def test_pair_and_surrogate():
    assert check(pair(torch.exp, lambda x, w: w * x.exp()), {"x": "n"}, seed=1).verdict is Verdict.PASS

    class StraightThrough(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.round()

        @staticmethod
        def backward(ctx, w):
            return w

    def meant(x):
        return x + (x.round() - x).detach()

    assert check(StraightThrough, (X,), reference=meant, surrogate=True, seed=1).verdict is Verdict.PASS
    identity = check(StraightThrough, (X,), reference=lambda x: x * 1, surrogate=True, seed=1)
    assert identity.verdict is Verdict.PASS  # its gradient is meant, and its values are not
    wrong = pair(torch.round, lambda x, w: 2 * w)
    assert check(wrong, (X,), reference=meant, surrogate=True, seed=1).verdict is Verdict.FAIL


def test_a_gradient_test_runs_what_it_is_asked_for():
    @gradient_test(x=tensor("n", low=0.1), checks=("vjp", "contract"), seed=4)
    def logarithm(x):
        return x.log()

    items = logarithm.items()
    assert [item.id for item in items] == ["vjp-cpu-float64", "contract-cpu-float64"]
    report = logarithm.run(items[:1], profile="ci")
    assert [r.check for r in report.results] == ["vjp"]
    assert (report.subject, report.profile, report.seed) == ("logarithm", "ci", 4)
    logarithm()


def test_calling_a_failing_gradient_test_raises():
    doubled = gradient_test(Doubled.apply, x="n d", seed=1, checks=("vjp",))
    with pytest.raises(GradientError, match="constant factor"):
        doubled()


def test_a_test_made_by_a_call_takes_the_name_it_is_held_by():
    test = gradient_test(Doubled, x="n")
    test.named("test_doubled")
    assert test.__name__ == "test_doubled"

    @gradient_test(x="n")
    def own(x):
        return x

    own.named("alias")
    assert own.name == "own"


def test_a_missing_device_is_skipped_with_its_reason():
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    report = check(sine, (X,), devices=("cpu", "cuda"), **FAST)
    skipped = [r for r in report.results if r.device == "cuda"]
    assert {r.verdict for r in skipped} == {Verdict.SKIPPED}
    assert {r.reason for r in skipped} == {"torch sees no CUDA device"}
    assert report.verdict is Verdict.PASS


def test_a_subject_that_runs_in_float32_alone_is_checked_there():
    def only_float32(x):
        if x.dtype is not torch.float32:
            raise TypeError("float32 only")
        return x.sin()

    report = check(only_float32, {"x": "n d"}, **FAST)
    assert {r.dtype for r in report.results} == {"float32"}
    assert report.verdict is Verdict.PASS
    assert "does not run in float64" in report.results[0].reason


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_low_precision_is_held_against_the_float64_reference(dtype):
    report = check(Doubled, {"x": "n d"}, reference=torch.sin, dtypes=(dtype,), **FAST)
    assert report.verdict is Verdict.FAIL
    right = check(torch.sin, {"x": "n d"}, reference=lambda x: torch.cos(x - torch.pi / 2), dtypes=(dtype,), **FAST)
    assert right.verdict is Verdict.PASS


def test_half_precision_without_a_reference_is_undecided():
    report = check(sine, {"x": "n d"}, dtypes=("bfloat16",), **FAST)
    assert report.verdict is Verdict.UNDECIDED
    assert "bfloat16" in report.results[1].reason


def test_a_time_limit_leaves_checks_undecided():
    report = check(sine, (X,), time_limit=1e-4)
    assert report.verdict is Verdict.UNDECIDED
    assert "time limit" in report.results[0].reason


def test_manual_state_comes_from_the_object_unless_it_is_given():
    class Scale:
        def __init__(self):
            self.a = torch.full((4,), 2.0)

        def forward(self, x):
            self.x = x
            return x * self.a

        def backward(self, w):
            self.dx, self.da = w * self.a, (w * self.x).sum(0)

    subject = manual(Scale, state=("a",), gradients=lambda o: {0: o.dx, "a": o.da})
    assert check(subject, (X,), **FAST).verdict is Verdict.PASS
    assert check(subject, {"x": "n d", "a": "d"}, **FAST).verdict is Verdict.PASS


def test_what_a_manual_class_has_no_gradient_for_is_not_asked_for_and_named():
    class Scale:
        def forward(self, x, a):
            self.x = x
            return x * a

        def backward(self, w):
            self.da = w * self.x

    subject = manual(Scale, gradients=lambda o: {"a": o.da})
    report = check(subject, {"x": "n", "a": "n"}, **FAST)
    assert report.verdict is Verdict.PASS
    assert any("not differentiated" in note and "x" in note for note in report.notes)
    asked = check(subject, (X, X), **FAST)
    assert asked.findings[0].fault is Fault.MISSING_GRADIENT
