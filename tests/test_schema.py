"""Schemas say what the files are: what is written is valid, what is damaged is not."""

import copy
import json
import tomllib
from pathlib import Path

import jsonschema
import pytest
import torch
from click.testing import CliRunner

from gradharness import check
from gradharness.cli import main
from gradharness.cli.schemas import DRAFT, FORMS, schema
from gradharness.config import load_config
from gradharness.errors import ConfigError, UnknownNameError
from gradharness.report.record import to_record
from tests.test_config import EVERY_KEY


def errors(name, data):
    """What a validator has to say, in the order of the file."""
    validator = jsonschema.Draft202012Validator(schema(name))
    return [f"{'/'.join(map(str, e.path))}: {e.message}" for e in validator.iter_errors(data)]


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return 2 * g * y, g * x


class Right(Doubled):
    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * y, g * x


class Breaking(Doubled):
    @staticmethod
    def backward(ctx, g):
        raise RuntimeError("not written yet")


class Infinite(Doubled):
    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * y / 0, g * x * torch.nan


def product(x, y):
    return x * y


@pytest.fixture(scope="module")
def records():
    """Records of runs that pass, warn, fail, break, give infinities, and cannot decide, as JSON has them."""
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    inputs, checks = (x, x.detach().clone().requires_grad_()), ("value", "vjp", "mask", "module")
    runs = ((Right, None), (Doubled, product), (Breaking, None), (Infinite, product))
    found = [check(subject, inputs, reference=reference, checks=checks, seed=0) for subject, reference in runs]
    found.append(check(torch.floor, (x,), checks=("vjp",), seed=0))
    return json.loads(json.dumps(to_record(found)))


def test_real_records_are_valid(records):
    assert {r["verdict"] for r in records["reports"]} >= {"pass", "fail"}
    findings = [f for report in records["reports"] for result in report["results"] for f in result["findings"]]
    assert {"error", "warning"} == {f["severity"] for f in findings}
    assert errors("record", records) == []


def finding(data):
    return next(f for report in data["reports"] for result in report["results"] for f in result["findings"])


DAMAGES = {
    "a report without its seed": lambda data: data["reports"][0].pop("seed"),
    "a seed that is text": lambda data: data["reports"][0].update(seed="0"),
    "results that are no list": lambda data: data["reports"][0].update(results={}),
    "a finding without its message": lambda data: finding(data).pop("message"),
    "a message that is a number": lambda data: finding(data).update(message=3),
    "a witness without arguments": lambda data: finding(data)["witness"].pop("arguments"),
    "an environment of triples": lambda data: data["reports"][0].update(environment=[["torch", "2", "x"]]),
    "no version": lambda data: data.pop("schema_version"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_record_is_not_valid(records, damage):
    data = copy.deepcopy(records)
    damage(data)
    assert errors("record", data)


def test_a_table_is_valid_if_and_only_if_it_is_read(folder):
    def told(text):
        (folder / "pyproject.toml").write_text(f"[tool.gradharness]\n{text}\n")
        try:
            load_config(folder)
        except (ConfigError, UnknownNameError) as error:
            return str(error)
        return ""

    assert errors("config", tomllib.loads(EVERY_KEY)["tool"]["gradharness"]) == []
    wrong = ["sed = 1", "seed = -1", "seed = 1.5", "strict = 'yes'", "checks = 'vjp'", "annotate = 'x'", "devices = []"]
    wrong += ["profiles.x.examples = 0", "profiles.x.example = 1", "fail-under = 101", "time-limit = 0", "audit = 3"]
    right = [
        "seed = 1",
        "store = false",
        "store = 'x'",
        "time-limit = 1",
        "profiles.x = {}",
        "tests = []",
        "audit = {}",
    ]
    for text in (*wrong, *right):
        assert bool(errors("config", tomllib.loads(text))) is bool(told(text)) is (text in wrong), text


@pytest.mark.parametrize("name", FORMS)
def test_every_schema_is_one_and_says_what_it_is(name):
    done = CliRunner().invoke(main, ["schema", name], catch_exceptions=False)
    assert done.exit_code == 0
    data = json.loads(done.stdout)
    jsonschema.Draft202012Validator.check_schema(data)
    assert data == json.loads(json.dumps(schema(name)))
    assert data["$schema"] == DRAFT
    assert data["$id"] == f"urn:gradharness:{name}:{data['version']}"
    assert data["title"]


def test_the_record_is_the_default_and_an_unknown_name_gets_a_hint():
    run = CliRunner().invoke
    assert json.loads(run(main, ["schema"]).stdout)["$id"] == "urn:gradharness:record:1"
    done = run(main, ["schema", "recrod"])
    assert (done.exit_code, done.stderr) == (2, "gradharness: unknown schema 'recrod': did you mean 'record'?\n")


def test_a_file_of_the_command_line_is_valid(write):
    write("test_ops.py", "@gradient_test(vjp='fail', contract='warning')\ndef test_f(x):\n    return x\n")
    CliRunner().invoke(main, ["check", "test_ops.py", "--json", "record.json"], catch_exceptions=False)
    assert errors("record", json.loads(Path("record.json").read_text())) == []
