"""What has become worse is told, with what it was, what it is, the limit and the remedy; nothing else is."""

import pytest

from gradharness.baseline.comparing import Comparison, Kind, vanished
from gradharness.baseline.figures import limits
from gradharness.baseline.model import Baseline, Known
from gradharness.baseline.telling import lines, totals
from gradharness.errors import UnknownNameError, UsageError
from tests.baseline.levels import elsewhere, entry, found, key

EPS = 2.0**-52


def compared(was, now, known=None, fail_on=()):
    baseline = Baseline({key(): was} if was is not None else {}, {key(): known} if known is not None else {})
    comparison = Comparison()
    comparison.add(now, baseline, limits(fail_on))
    return comparison


def told(was, now, **options):
    """The only remark, in kind and words; None if there is none."""
    remarks = compared(was, now, **options).remarks
    assert len(remarks) < 2
    return (remarks[0].kind, str(remarks[0])) if remarks else None


def kind(was, now, **options):
    remark = told(was, now, **options)
    return remark and remark[0]


# ------------------------------------------------------------------------------------------------------------ figures


@pytest.mark.parametrize(
    ("figure", "was", "within", "beyond", "better"),
    [
        ("error", 1e-10, 1.9e-10, 2e-10, 4e-11),
        ("resolution", 1e-6, 2e-6, 2.1e-6, 4e-7),
        ("saved", 1000, 1100, 1101, 900),
        ("cost", 1.2, 1.8, 1.9, 0.7),
    ],
)
def test_growth_beyond_the_limit_fails_and_less_is_an_improvement(figure, was, within, beyond, better):
    assert told(entry(**{figure: was}), found(**{figure: was})) is None
    assert told(entry(**{figure: was}), found(**{figure: within})) is None
    assert kind(entry(**{figure: was}), found(**{figure: beyond})) is Kind.REGRESSION
    assert kind(entry(**{figure: was}), found(**{figure: better})) is Kind.IMPROVED
    off = [f"{figure}:off"]
    assert told(entry(**{figure: was}), found(**{figure: beyond}), fail_on=off) is None


def test_the_message_has_what_it_was_what_it_is_the_limit_and_the_remedy():
    assert told(entry(error=1.2e-10), found(error=3.1e-9)) == (
        Kind.REGRESSION,
        "REGRESSION: test_ops.py::test_f[vjp-cpu-float64]: error level was 1.2e-10, is 3.1e-09: 26 × as much, the "
        "limit is 2 × 1.2e-10; mend it, or accept it: gradharness baseline record test_ops.py::test_f",
    )


def test_errors_of_a_few_ulps_are_noise():
    assert told(entry(error=0.0), found(error=8 * EPS)) is None
    assert told(entry(error=EPS / 8), found(error=8 * EPS)) is None
    assert told(entry(error=0.0), found(error=15 * EPS)) is None
    assert kind(entry(error=0.0), found(error=17 * EPS)) is Kind.REGRESSION
    assert kind(entry(error=17 * EPS), found(error=0.0)) is Kind.IMPROVED
    single = key(dtype="float32")
    baseline = Baseline({single: entry(error=0.0)})
    assert Comparison().add(found(at=single, error=17 * EPS), baseline, limits()) == ()


def test_the_first_saved_byte_fails():
    assert kind(entry(saved=0), found(saved=1)) is Kind.REGRESSION
    assert told(entry(saved=0), found(saved=0)) is None


def test_a_lost_resolution_fails_and_a_lost_measurement_is_told():
    assert "resolution was 1e-06, is lost" in told(entry(resolution=1e-6), found())[1]
    comparison = compared(entry(cost=1.2), found())
    assert not comparison.failed()
    assert comparison.failed(strict=True)
    assert any("not compared: cost ratio of 1 check" in line for line, _ in lines(comparison))


def test_calls_are_compared_when_asked():
    assert told(entry(calls=100), found(calls=1000)) is None
    assert kind(entry(calls=100), found(calls=1000), fail_on=["calls:2x"]) is Kind.REGRESSION
    assert told(entry(calls=100), found(calls=200), fail_on=["calls:2x"]) is None


@pytest.mark.parametrize(
    ("figure", "was", "now", "changes", "keeps"),
    [
        ("error", 1e-12, 1e-9, ("torch", "seed", "profile", "machine", "gradharness"), ("processor", "threads")),
        ("resolution", 1e-6, 1e-3, ("seed", "profile"), ("torch", "processor", "threads")),
        ("saved", 100, 1000, ("torch",), ("seed", "processor", "threads", "python")),
        ("cost", 1.0, 9.0, ("torch", "python", "threads", "processor"), ("seed", "profile")),
    ],
)
def test_thresholds_that_do_not_carry_over_are_told_and_not_applied(figure, was, now, changes, keeps):
    for name in changes:
        comparison = compared(entry(**{figure: was}, environment=elsewhere(**{name: "other"})), found(**{figure: now}))
        assert not comparison.failed()
        assert comparison.failed(strict=True)
        shown = [line for line, _ in lines(comparison)]
        assert any(line.startswith(f"THE ENVIRONMENT DIFFERS: {name}: recorded with other, here ") for line in shown)
        assert any(line.startswith("not compared: ") and f"recorded with {name} other" in line for line in shown)
    for name in keeps:
        comparison = compared(entry(**{figure: was}, environment=elsewhere(**{name: "other"})), found(**{figure: now}))
        assert comparison.failed()
        assert any(line.startswith(f"THE ENVIRONMENT DIFFERS: {name}") for line, _ in lines(comparison))


def test_a_gpu_of_another_name_is_another_device():
    device = key(device="cuda")
    was = entry(error=1e-12, environment=(*elsewhere(), ("cuda", "A100")))
    comparison = Comparison()
    now = found(at=device, error=1e-9, environment=(*elsewhere(), ("cuda", "H100")))
    comparison.add(now, Baseline({device: was}), limits())
    assert not comparison.failed()
    assert any("recorded with cuda A100, here H100" in line for line, _ in lines(comparison))


# ----------------------------------------------------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("was", "now", "kind_of_it"),
    [
        ("pass", "pass", None),
        ("pass", "fail", Kind.REGRESSION),
        ("pass", "undecided", Kind.REGRESSION),
        ("pass", "skipped", Kind.REGRESSION),
        ("undecided", "undecided", None),
        ("undecided", "pass", Kind.IMPROVED),
        ("undecided", "fail", Kind.REGRESSION),
        ("skipped", "skipped", None),
        ("skipped", "pass", Kind.NEW),
        ("skipped", "fail", Kind.REGRESSION),
        ("skipped", "undecided", Kind.REGRESSION),
        ("fail", "fail", Kind.REGRESSION),
        ("fail", "pass", Kind.IMPROVED),
        (None, "pass", Kind.NEW),
        (None, "skipped", Kind.NEW),
        (None, "fail", Kind.REGRESSION),
        (None, "undecided", Kind.REGRESSION),
    ],
)
def test_what_a_verdict_means_beside_the_recorded_one(was, now, kind_of_it):
    assert kind(was and entry(was), found(now)) is kind_of_it


def test_what_is_new_is_to_be_recorded():
    assert told(None, found()) == (
        Kind.NEW,
        "new: test_ops.py::test_f[vjp-cpu-float64]: is not in the baseline, passes; record it: gradharness baseline "
        "record test_ops.py::test_f",
    )
    assert not compared(None, found()).failed()
    assert compared(None, found()).failed(strict=True)


def test_a_device_that_is_not_there_is_told_and_fails_nothing():
    now = found("skipped", message="torch sees no CUDA device", no_device=True)
    assert kind(entry("pass"), now) is Kind.ABSENT
    assert told(entry("skipped"), now) is None
    assert told(None, now) is None


# ---------------------------------------------------------------------------------------------------- known failures

KNOWN = Known(key=key(), fault="constant factor", label="x", reason="issue 7", link="https://e.org/7")


def test_a_known_failure_is_expected():
    comparison = compared(entry("fail"), found("fail"), known=KNOWN)
    assert not comparison.failed(strict=True)
    (remark,) = comparison.remarks
    assert str(remark) == (
        "known failure: test_ops.py::test_f[vjp-cpu-float64]: constant factor of x: issue 7 (https://e.org/7)"
    )
    anywhere = Known(key=key(), fault="constant factor", reason="issue 7")
    assert kind(None, found("fail", label="weight"), known=anywhere) is Kind.EXPECTED


def test_a_known_failure_that_passes_is_told():
    remark = told(entry("fail"), found(), known=KNOWN)
    assert remark[0] is Kind.MENDED
    assert "known failure passes now" in remark[1]
    assert "remove it" in remark[1]
    assert not compared(entry("fail"), found(), known=KNOWN).failed()


@pytest.mark.parametrize("other", [{"fault": "sign"}, {"label": "weight"}])
def test_another_fault_than_the_known_one_fails(other):
    remark = told(entry("fail"), found("fail", **other), known=KNOWN)
    assert remark[0] is Kind.REGRESSION
    assert "known is another fault: constant factor of x (issue 7)" in remark[1]


# ------------------------------------------------------------------------------------------------------------ the rest


def test_what_is_gone_is_told_by_check_and_by_test():
    baseline = Baseline({key("vjp"): entry(), key("leak"): entry(), key("mask"): entry("skipped")})
    seen = {"test_ops.py::test_f": {"vjp-cpu-float64"}}
    (remark,) = vanished(baseline, baseline.entries, seen)
    assert str(remark).startswith(
        "VANISHED: test_ops.py::test_f[leak-cpu-float64]: the check is gone; its verdict was: pass; restore it"
    )
    (remark,) = vanished(baseline, baseline.entries, {})
    assert str(remark).startswith("VANISHED: test_ops.py::test_f: the test is gone, with 3 checks; restore it")
    assert not list(vanished(baseline, [], {}))


def test_the_totals():
    comparison = compared(entry(error=1e-10), found(error=1e-8))
    assert totals(comparison) == "1 check compared, 1 regression"
    assert totals(compared(entry(), found())) == "1 check compared, no regression"
    assert totals(compared(None, found())) == "0 checks compared, 1 new, no regression"


@pytest.mark.parametrize("text", ["error", "error:", "error:1x", "error:0.5x", "error:nan", "error:2y", "error:inf"])
def test_a_limit_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match="give a factor above 1, such as error:2x, or off"):
        limits([text])


def test_a_figure_that_is_none_and_one_named_twice_are_refused():
    with pytest.raises(UnknownNameError, match="unknown figure in --fail-on 'eror': did you mean 'error'"):
        limits(["eror:2x"])
    with pytest.raises(UsageError, match="names error twice"):
        limits(["error:2x", "cost:3x,error:3x"])


def test_limits_that_are_given_replace_the_usual_ones():
    assert limits().factors == {"error": 2.0, "resolution": 2.0, "saved": 1.1, "cost": 1.5}
    assert limits(["error:3x, cost:off", "calls:2"]).factors == {
        "error": 3.0,
        "resolution": 2.0,
        "saved": 1.1,
        "calls": 2.0,
    }
