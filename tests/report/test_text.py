"""The text is what people read, so it is pinned word for word."""

from dataclasses import replace

import torch

from gradharness.engine.plan import Item
from gradharness.model.exhibit import HeatMap, OracleValue
from gradharness.model.verdict import Fault, Finding, Report, Severity, Verdict, Witness
from gradharness.report import text
from tests.fakes import ERROR, WARNING, result

ITEM = Item("vjp", "cpu", "float64")


def report(*outcomes, **fields):
    names = ("vjp", "linearity", "contract", "value")
    results = tuple(result(Item(n, "cpu", "float64"), o) for n, o in zip(names, outcomes, strict=False))
    fields = {"domain": ("x: float64[n, d], n and d from 0 to 5",), "seed": 17, "seconds": 1.25, **fields}
    return Report(subject="test_linear", results=results, **fields)


def test_a_failure():
    assert text.render(report("fail", "pass"), target="test_ops.py::test_linear") == (
        """\
test_linear: FAIL (the gradient is wrong beyond what all known errors can explain)
  drew: x: float64[n, d], n and d from 0 to 5
  vjp-cpu-float64        FAIL · 1 finding
  linearity-cpu-float64  pass · would have seen a relative error above 3e-06

test_linear [vjp-cpu-float64]: error, constant factor
  at x[0, 1]
  expected -0.25 ± 3e-06   got -0.5   off by 0.25, 8.3e+04 × the bound
  the gradient of `x` is 2 times the right one
  2 of 2 elements are wrong
  witness (2 elements):
    x: float64[1, 2] = [[1, -2]]
    n: 3
    cotangent: float64[1, 1] = [[1]]
  replay: gradharness check test_ops.py::test_linear --checks vjp --device cpu --dtype float64 --seed 17

2 checks, 50 examples, 1.2 s, seed 17, profile dev"""
    )


def test_a_pass_says_what_it_would_have_seen():
    assert text.render(report("pass")) == (
        """\
test_linear: PASS (no error above the stated resolution)
  drew: x: float64[n, d], n and d from 0 to 5
  vjp-cpu-float64  pass · would have seen a relative error above 3e-06

1 check, 25 examples, 1.2 s, seed 17, profile dev"""
    )


def test_undecided_and_skipped_say_why():
    lines = text.outcomes(report("undecided", "skipped"))
    assert lines == [
        "  vjp-cpu-float64        undecided · float32 differences are too coarse",
        "  linearity-cpu-float64  skipped · torch sees no CUDA device",
    ]


def test_a_warning_is_shown_beside_the_pass():
    shown = text.render(report("warning"))
    assert "pass · would have seen a relative error above 3e-06 · 1 warning" in " ".join(shown.split())
    assert "test_linear [vjp-cpu-float64]: warning, wrong dtype\n  float32 inside a float64 backward\n" in shown


def test_a_check_that_fails_by_a_warning_alone_says_so():
    failed = replace(result(ITEM, "warning"), verdict=Verdict.FAIL)
    assert text.outcome(failed) == "FAIL · under --strict · 1 warning"


def test_notes_are_printed():
    assert "  note: the reference is the subject itself" in text.render(
        report("pass", notes=("the reference is the subject itself",))
    )


def test_the_worst_finding_comes_last():
    second = replace(ERROR, fault=Fault.SIGN)
    failed = replace(result(ITEM, "fail"), findings=(WARNING, ERROR, second))
    shown = text.worst_last(replace(report("pass"), results=(failed,)))
    assert [seen.finding for seen in shown] == [WARNING, second, ERROR]
    assert text.worst_last(report()) == ()


def test_of_a_warning_that_fails_nothing_the_sentence_and_the_command_are_enough():
    warning = replace(ERROR, severity=Severity.WARNING, fault=Fault.WRONG_DTYPE)
    passed = replace(result(ITEM, "pass"), findings=(warning,))
    one = replace(report("pass"), results=(passed,))
    assert text.render(one, target="test_ops.py::test_linear").split("\n\n")[1] == (
        """\
test_linear [vjp-cpu-float64]: warning, wrong dtype
  the gradient of `x` is 2 times the right one
  replay: gradharness check test_ops.py::test_linear --checks vjp --device cpu --dtype float64 --seed 17"""
    )
    whole = text.render(one, full=True)
    strict = text.render(replace(one, results=(replace(passed, verdict=Verdict.FAIL),)))
    for shown in (whole, strict):
        assert "  expected -0.25 ± 3e-06   got -0.5" in shown
        assert "  witness (2 elements):" in shown


def test_a_warning_beside_an_error_of_its_check_stays_short():
    warning = replace(ERROR, severity=Severity.WARNING, fault=Fault.WRONG_DTYPE)
    failed = replace(result(ITEM, "fail"), findings=(ERROR, warning))
    shown = text.render(replace(report("pass"), results=(failed,)))
    assert shown.count("witness (2 elements)") == 1


def test_in_full_every_oracle_says_what_it_has_at_the_worst_element():
    values = (
        OracleValue(oracle="autograd of the reference", value=-0.25, bound=2e-15),
        OracleValue(oracle="finite difference", value=-0.2500000001, bound=1.5e-9),
    )
    heat = torch.zeros(1, 1, dtype=torch.float64)
    picture = HeatMap(label="x", expected=heat, got=heat, bound=heat, shape=(1, 1), corner=(0, 0), worst=(0, 0))
    failed = replace(result(ITEM, "fail"), findings=(replace(ERROR, exhibits=(picture, *values)),))
    one = replace(report("fail"), results=(failed,))
    told = """\
  oracles there, with their own bounds:
    subject                    -0.5
    autograd of the reference  -0.25 ± 2e-15
    finite difference          -0.2500000001 ± 1.5e-09
"""
    assert told in text.render(one, full=True)
    assert "oracles there" not in text.render(one)
    assert "oracles there" not in text.render(report("fail"), full=True)


def test_what_junit_is_told():
    passed, failed, warned = (report(outcome, profile="ci") for outcome in ("pass", "fail", "warning"))
    assert text.properties(passed, passed.results[0]) == [
        ("gradharness_verdict", "pass"),
        ("gradharness_resolution", 3e-06),
        ("gradharness_seed", 17),
        ("gradharness_profile", "ci"),
        ("gradharness_examples", 25),
    ]
    assert ("gradharness_fault", "constant factor") in text.properties(failed, failed.results[0])
    assert ("gradharness_warning", "wrong dtype") in text.properties(warned, warned.results[0])


def test_a_fault_that_several_checks_find_is_told_once():
    first = result(ITEM, "fail")
    again = replace(first, check="shape", findings=(replace(ERROR, message="the same again"),))
    shown = text.render(replace(report("pass"), results=(first, again)))
    assert shown.count("error, constant factor") == 1
    assert "  also found by shape-cpu-float64\n" in shown
    assert "the same again" not in shown


def test_without_a_target_the_seed_is_named():
    assert "replay: call it again with seed=17" in text.render(report("fail"))


def test_another_profile_and_a_path_with_a_space_are_in_the_command():
    one = report("fail", profile="deep")
    assert text.replay(one, one.results[0], "my ops.py::test_linear") == (
        'gradharness check "my ops.py::test_linear" --checks vjp --device cpu --dtype float64 --seed 17 --profile deep'
    )


def numbers(**fields):
    witness = Witness(arguments=(), cotangents=(), recipe={}, **fields)
    finding = Finding(check="vjp", fault=Fault.UNKNOWN, severity=Severity.ERROR, message="wrong", witness=witness)
    one = report("pass")
    return text.finding_text(one, text.Seen(finding, one.results[:1])).splitlines()[1:-3]


def test_two_numbers_are_printed_with_the_digits_that_tell_them_apart():
    assert numbers(expected=1.0, got=1.0 + 2e-9, bound=1e-12) == [
        "  expected 1 ± 1e-12   got 1.000000002   off by 2e-09, 2e+03 × the bound"
    ]


def test_a_missing_gradient():
    assert numbers(label="w", expected=2.0) == ["  at w", "  expected 2   got nothing"]


def test_a_gradient_that_is_not_finite():
    assert numbers(label="w", index=(), expected=0.0, got=float("nan"), bound=1e-9) == [
        "  at w",
        "  expected 0 ± 1e-09   got nan",
    ]


def test_complex_numbers_and_a_bound_of_zero():
    assert numbers(expected=1 + 2j, got=1 - 2j, bound=0.0) == ["  expected 1+2j ± 0   got 1-2j   off by 4"]


def test_no_numbers_where_only_a_direction_was_measured():
    assert numbers(label="weight") == ["  at weight"]


def test_prose_keeps_to_the_width_and_commands_stay_whole():
    long = replace(ERROR, message="a long sentence about the gradient " * 8)
    one = report("fail")
    lines = text.finding_text(one, text.Seen(long, one.results[:1]), target="a" * 90).splitlines()
    assert all(len(line) <= 80 for line in lines[:-1])
    assert lines[-1].startswith("  replay: ")


def test_several_cotangents_are_numbered():
    witness = Witness(arguments=(), cotangents=(torch.zeros(1), torch.ones(1)), recipe={})
    one = report("fail")
    shown = text.finding_text(one, text.Seen(replace(ERROR, witness=witness), one.results[:1]))
    assert "cotangent 0: float32[1] = [0]\n    cotangent 1: float32[1] = [1]" in shown
