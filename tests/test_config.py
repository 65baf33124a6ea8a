"""``[tool.gradharness]``: what it may say, what is refused, and what counts more than what."""

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from gradharness import check, gradient_test
from gradharness.cli import main
from gradharness.config import Config, ConfigTable, load_config
from gradharness.engine.settings import BUILT_IN, PROFILES, use_profiles
from gradharness.errors import ConfigError, UnknownNameError

pytest_plugins = ["pytester"]

EVERY_KEY = """
[tool.gradharness]
profile = "nightly"
seed = 5
strict = true
time-limit = 30
devices = ["cpu", "cuda"]
dtypes = ["float32"]
checks = ["vjp", "linearity"]
store = false
baseline = "levels.toml"
undecided = "skip"
annotate = "plain"
html = "page.html"
tests = ["tests/gradients", "ops.py::test_f", "package.module:attribute"]
fail-under = 90
fail-on = ["error:2x"]

[tool.gradharness.profiles.nightly]
examples = 400

[tool.gradharness.profiles.ci]
shrinks = 7
shrink-seconds = 0.5

[tool.gradharness.audit]
exempt = { "package.Name" = "generated" }
"""


@pytest.fixture(autouse=True)
def built_in_profiles():
    yield
    use_profiles({})


@pytest.fixture
def table(folder):
    """Writes a ``pyproject.toml`` into the current folder, which is an empty one."""

    def table(text):
        (folder / "pyproject.toml").write_text(text, encoding="utf-8")
        return folder

    return table


def tool(line):
    return f"[tool.gradharness]\n{line}\n"


# ------------------------------------------------------------------------------------------------------------- reading


def test_every_key_is_read(table):
    config = load_config(table(EVERY_KEY))
    said = {name for name in ConfigTable.__struct_fields__ if getattr(config, name) != getattr(Config(), name)}
    assert said == set(ConfigTable.__struct_fields__)
    assert (config.profile, config.seed, config.strict, config.time_limit) == ("nightly", 5, True, 30.0)
    assert (config.store, config.fail_under, config.fail_on) == (False, 90.0, ("error:2x",))
    assert config.audit.exempt == {"package.Name": "generated"}


def test_the_table_of_the_readme_is_read(table):
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    blocks = [
        text for text in re.findall(r"```toml\n(.*?)```", readme, flags=re.DOTALL) if "[tool.gradharness]" in text
    ]
    assert blocks
    for text in blocks:
        load_config(table(text))


def test_a_profile_takes_what_it_leaves_out_from_the_built_in_one(table):
    own = load_config(table(EVERY_KEY)).own_profiles
    assert (own["nightly"].examples, own["nightly"].shrinks) == (400, BUILT_IN["dev"].shrinks)
    assert (own["ci"].examples, own["ci"].shrinks, own["ci"].shrink_seconds) == (BUILT_IN["ci"].examples, 7, 0.5)


@pytest.mark.parametrize("text", ["", "[project]\nname = 'x'\n", "tool = 3\n", "[tool.other]\nseed = 'x'\n"])
def test_without_a_table_there_are_defaults(table, text):
    assert load_config(table(text)) == Config()
    assert Config().defaults == {}


def test_the_nearest_table_counts_and_its_paths_are_relative_to_it(table, monkeypatch):
    folder = table(EVERY_KEY)
    inner = folder / "a" / "b"
    inner.mkdir(parents=True)
    (folder / "a" / "pyproject.toml").write_text("[project]\nname = 'without a table'\n")
    monkeypatch.chdir(inner)
    config = load_config(Path.cwd())
    assert config.path == folder / "pyproject.toml"
    assert config.here("levels.toml") == os.path.join("..", "..", "levels.toml")
    assert config.targets == ("../../tests/gradients", "../../ops.py::test_f", "package.module:attribute")


REFUSED = {
    "unknown key": (tool("profil = 'ci'"), UnknownNameError, "'profil': did you mean 'profile'?"),
    "underscore": (tool("time_limit = 3"), UnknownNameError, "'time_limit': did you mean 'time-limit'?"),
    "not a key": (tool("path = 'x'"), UnknownNameError, "'path': known: annotate, audit"),
    "unknown profile": (tool("profile = 'cii'"), UnknownNameError, "'cii': did you mean 'ci'?"),
    "text for a number": (tool("seed = 'x'"), ConfigError, "seed = 'x'; expected a whole number from 0 on"),
    "fraction": (tool("seed = 1.5"), ConfigError, "seed = 1.5; expected a whole number from 0 on"),
    "negative": (tool("seed = -1"), ConfigError, "seed = -1; expected a whole number from 0 on"),
    "true for a number": (tool("seed = true"), ConfigError, "seed = true; expected a whole number from 0 on"),
    "date": (tool("seed = 1979-05-27"), ConfigError, "expected a whole number from 0 on"),
    "infinite": (tool("time-limit = inf"), ConfigError, "time-limit = inf; expected a positive number of seconds"),
    "not a number": (tool("time-limit = nan"), ConfigError, "time-limit = nan; expected a positive number of seconds"),
    "text for a flag": (tool("strict = 'yes'"), ConfigError, "strict = 'yes'; expected true or false"),
    "text for a list": (tool("checks = 'vjp'"), ConfigError, """checks = 'vjp'; expected a list such as ["vjp", """),
    "numbers in a list": (tool("checks = [1]"), ConfigError, "checks = [1]; expected a list such as"),
    "empty list": (tool("devices = []"), ConfigError, "devices = []; expected a list such as"),
    "choice": (tool("annotate = 'gitlab'"), ConfigError, """expected "auto", "github", "plain" or "none\""""),
    "percentage": (tool("fail-under = 101"), ConfigError, "fail-under = 101; expected a percentage from 0 to 100"),
    "no table": ("[tool]\ngradharness = 3\n", ConfigError, "tool.gradharness = 3; expected a table"),
    "no profiles": (tool("profiles = 3"), ConfigError, "profiles = 3; expected a table of profiles"),
    "no profile": (tool("profiles.x = 3"), ConfigError, "tool.gradharness.profiles.x = 3; expected a table"),
    "profile's key": (tool("profiles.x.example = 3"), UnknownNameError, "'example': did you mean 'examples'?"),
    "profile's value": (
        tool("profiles.x.examples = 0"),
        ConfigError,
        "[tool.gradharness.profiles.x]: examples = 0; expected a whole number from 1 on",
    ),
    "exemption": (tool("audit.exempt = 3"), ConfigError, "[tool.gradharness.audit]: exempt = 3; expected a table"),
    "long value": (tool(f"seed = '{'x' * 500}'"), ConfigError, "x...; expected a whole number from 0 on"),
    "not TOML": ("[tool.gradharness\n", ConfigError, "pyproject.toml is not TOML: Expected ']'"),
    "deep": (f"a = {'[' * 5000}{']' * 5000}\n", ConfigError, "pyproject.toml is not TOML: its tables are nested"),
}


@pytest.mark.parametrize(("text", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_told_with_file_key_value_and_what_is_expected(table, text, kind, message):
    with pytest.raises(kind) as raised:
        load_config(table(text))
    told = str(raised.value)
    assert message in told
    assert "pyproject.toml" in told
    assert "\n" not in told


def test_a_file_that_is_damaged_is_read_or_refused_in_one_line(folder):
    path, draw = folder / "pyproject.toml", random.Random(0)
    told = []
    for _ in range(500):
        damaged = bytearray(EVERY_KEY.encode())
        for _ in range(draw.randint(1, 4)):
            place = draw.randrange(len(damaged))
            damaged[place : place + draw.randint(0, 5)] = draw.randbytes(draw.randint(0, 3))
        path.write_bytes(damaged)
        try:
            load_config(folder)
        except (ConfigError, UnknownNameError) as error:
            told.append(error)
    assert {type(error) for error in told} == {ConfigError, UnknownNameError}
    assert not [str(error) for error in told if "\n" in str(error)]


def test_a_file_that_is_no_text_is_refused(folder):
    (folder / "pyproject.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_config(folder)


def test_names_of_checks_devices_and_dtypes_are_looked_up(table):
    load_config(table(EVERY_KEY)).insist_on_names()
    Config().insist_on_names()
    for line, hint in {
        "checks = ['vpj']": "vjp",
        "devices = ['cpus']": "cpu",
        "dtypes = ['flat64']": "float64",
    }.items():
        config = load_config(table(tool(line)))
        with pytest.raises(ConfigError, match=rf"pyproject.toml, \[tool.gradharness\]: .* did you mean '{hint}'"):
            config.insist_on_names()


def test_reading_a_table_loads_neither_torch_nor_hypothesis(table):
    code = (
        "import sys; from pathlib import Path; from gradharness.config import load_config; "
        "load_config(Path.cwd()); print({'torch', 'hypothesis'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=table(EVERY_KEY),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == ("set()", "")


# ---------------------------------------------------------------------------------------------------------- precedence


def sine(**options):
    import torch

    return gradient_test(torch.sin, x="n", **options)


def test_a_test_takes_from_the_configuration_what_its_decorator_leaves_open():
    defaults = {"profile": "ci", "seed": 9, "strict": True, "time_limit": 60.0, "dtypes": ("float32",)}
    test = sine()
    test.defaults = {**defaults, "checks": ("contract",), "devices": ("cpu", "cuda:0")}
    assert [item.id for item in test.items()] == ["contract-cpu-float32", "contract-cuda:0-float32"]
    report = test.run(test.items()[:1])
    assert (report.profile, report.seed) == ("ci", 9)


def test_what_the_decorator_says_counts_more_than_the_configuration():
    test = sine(profile="dev", seed=0, checks=("vjp",), devices=("cpu",), dtypes=("float64",), strict=False)
    test.defaults = {
        "profile": "ci",
        "seed": 9,
        "checks": ("contract",),
        "devices": ("cuda",),
        "dtypes": ("float32",),
        "strict": True,
    }
    assert [item.id for item in test.items()] == ["vjp-cpu-float64"]
    report = test.run()
    assert (report.profile, report.seed) == ("dev", 0)
    assert test.run(seed=4, profile="ci").seed == 4


def wasteful():
    import torch

    class Wasteful(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            ctx.save_for_backward(x, y)
            return x * y

        @staticmethod
        def backward(ctx, g):
            x, y = ctx.saved_tensors
            return g * y, g * x

    return Wasteful


@pytest.mark.parametrize(
    ("said", "configured", "verdict"), [(None, True, "FAIL"), (False, True, "PASS"), (None, None, "PASS")]
)
def test_strict_of_the_configuration_is_taken_back_by_the_decorator(said, configured, verdict):
    test = gradient_test(wasteful(), x="n", y="n", checks=("mask",), seed=0, strict=said)
    test.defaults = {} if configured is None else {"strict": configured}
    assert test.run().verdict.name == verdict


def test_the_function_check_reads_no_configuration(table):
    import torch

    table(tool("seed = 5\nchecks = ['contract']"))
    report = check(torch.sin, (torch.randn(2, dtype=torch.float64),), checks=("value",), seed=1)
    assert (report.seed, [r.check for r in report.results]) == (1, ["value"])


def test_own_profiles_are_known_and_go_again(table):
    use_profiles(load_config(table(EVERY_KEY)).own_profiles)
    assert sine(profile="nightly", checks=("contract",)).run().profile == "nightly"
    use_profiles({})
    assert dict(BUILT_IN) == PROFILES
    with pytest.raises(UnknownNameError, match="unknown profile 'nightly': known: ci, deep, dev"):
        sine(profile="nightly")


# ------------------------------------------------------------------------------------------------------- command line

OPS = """
import torch
from gradharness import gradient_test

test_open = gradient_test(torch.sin, x="n")
test_said = gradient_test(torch.sin, x="n", checks=("contract",), seed=7)
"""


def run(*arguments):
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


@pytest.fixture
def project(table):
    folder = table(tool("seed = 5\nchecks = ['value']\ntests = ['ops.py']\nprofiles.quick.examples = 2"))
    (folder / "ops.py").write_text(OPS)
    return folder


def test_without_a_target_the_configured_tests_run(project):
    done = run("check")
    assert done.exit_code == 0, done.output
    assert "value" in done.stdout
    assert "contract" in done.stdout
    assert "seed 5, profile dev" in done.stdout
    assert "seed 7, profile dev" in done.stdout


def test_an_option_counts_more_than_the_configuration(project):
    done = run("check", "ops.py::test_open", "--checks", "contract", "--seed", "3", "--profile", "quick")
    assert done.exit_code == 0, done.output
    assert "value" not in done.stdout.split("on: cpu")[1]
    assert "seed 3, profile quick" in done.stdout


def test_a_campaign_takes_the_table_too(project):
    from gradharness.cli.targets import resolve

    assert run("fuzz", "ops.py", "--max-rounds", "1").exit_code == 0
    tests = [target.test for target in resolve(("ops.py",)).targets]  # the same objects: a file is loaded once
    assert [[item.check for item in test.items()] for test in tests] == [["value"], ["contract"]]


def test_there_is_no_target_at_all(folder):
    done = run("check")
    assert (done.exit_code, done.stderr.startswith("gradharness: no TARGET: name a file")) == (2, True)


@pytest.mark.parametrize("command", ["check", "fuzz"])
def test_the_command_line_suggests_a_profile(project, command):
    done = run(command, "ops.py", "--profile", "quik")
    assert (done.exit_code, done.stderr) == (2, "gradharness: unknown profile 'quik': did you mean 'quick'?\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("sed = 1", "unknown key in [tool.gradharness] of pyproject.toml: 'sed': did you mean 'seed'?"),
        ("checks = ['vpj']", "pyproject.toml, [tool.gradharness]: unknown check 'vpj': did you mean 'vjp'?"),
    ],
)
def test_the_command_line_tells_what_is_wrong_with_the_table(table, line, message):
    (table(tool(line)) / "ops.py").write_text(OPS)
    done = run("check", "ops.py")
    assert (done.exit_code, done.stderr) == (2, f"gradharness: {message}\n")


def test_ci_in_the_environment_chooses_no_profile(project, monkeypatch):
    monkeypatch.setenv("CI", "true")
    assert "seed 5, profile dev" in run("check", "ops.py::test_open").stdout


# ------------------------------------------------------------------------------------------------------------- pytest

PLAIN = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:hypothesispytest")


def pytest_run(pytester, text, *arguments, module=OPS):
    from tests.test_pytest_plugin import LOAD

    pytester.makefile(".toml", pyproject=f"[tool.pytest.ini_options]\n{text}")
    pytester.makepyfile(test_ops=module)
    return pytester.runpytest_inprocess(*LOAD, *PLAIN, *arguments)


def test_pytest_reads_the_table_of_its_root(pytester):
    done = pytest_run(pytester, tool("checks = ['value', 'vjp']"), "--collect-only", "-q")
    assert done.outlines[:3] == [
        "test_ops.py::test_open[value-cpu-float64]",
        "test_ops.py::test_open[vjp-cpu-float64]",
        "test_ops.py::test_said[contract-cpu-float64]",
    ]


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (tool("sed = 1"), (), "ERROR: unknown key in [[]tool.gradharness] of *: 'sed': did you mean 'seed'[?]"),
        (tool("seed = 'x'"), (), "ERROR: *pyproject.toml, [[]tool.gradharness]: seed = 'x'; expected a whole number*"),
        ("", ("--gradharness-profile=depe",), "ERROR: unknown profile 'depe': did you mean 'deep'[?]"),
    ],
)
def test_pytest_tells_what_is_wrong_as_a_usage_error(pytester, text, arguments, message):
    done = pytest_run(pytester, text, *arguments)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([message])
    assert "Traceback" not in done.stderr.str() + done.stdout.str()


def test_pytest_tells_a_name_that_does_not_exist_where_it_would_be_used(pytester):
    done = pytest_run(pytester, tool("checks = ['vpj']"))
    done.assert_outcomes(errors=2)
    done.stdout.fnmatch_lines(["test_open: *pyproject.toml, [[]tool.gradharness]: unknown check 'vpj': did you mean*"])
    done.stdout.no_fnmatch_line("*Traceback*")


FAKE = "from tests.fakes import gradient_test\n@gradient_test(vjp='undecided')\ndef test_f(x):\n    return x\n"


def test_pytest_takes_undecided_from_the_table_and_an_option_counts_more(pytester):
    pytest_run(pytester, tool("undecided = 'skip'"), module=FAKE).assert_outcomes(skipped=1)
    pytest_run(pytester, tool("undecided = 'skip'"), "--gradharness-undecided=fail", module=FAKE).assert_outcomes(
        failed=1
    )
