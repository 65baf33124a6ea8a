"""Exhibits in a record: they come back as they were, and damaged ones are told so."""

import json
from dataclasses import replace

import pytest
import torch

from gradharness.errors import UsageError
from gradharness.model.exhibit import OracleValue
from gradharness.report import record
from tests.report.pages import EVERYTHING, failed, finding, heat_map, report

NAN, INF = float("nan"), float("inf")
COMPLEX = OracleValue(oracle="finite difference", value=1 - 2j, bound=1e-9)
ODD = replace(heat_map(), got=torch.tensor([[NAN, INF], [-INF, 1.0]]), expected=torch.eye(2), bound=torch.ones(2, 2))


def recorded(exhibits):
    return json.loads(json.dumps(record.to_record([report("f", failed("vjp", finding(exhibits=exhibits)))])))


@pytest.mark.parametrize("exhibit", [*EVERYTHING, COMPLEX, ODD], ids=lambda e: type(e).__name__)
def test_an_exhibit_comes_back(exhibit):
    data = recorded((exhibit,))
    (back,) = record.from_record(data)
    (found,) = back.findings[0].exhibits
    assert type(found) is type(exhibit)
    assert str(found) == str(exhibit)
    assert recorded((found,)) == data


def test_a_record_without_exhibits_is_read_as_before():
    data = recorded(())
    assert "exhibits" not in data["reports"][0]["results"][0]["findings"][0]
    assert record.from_record(data)[0].findings[0].exhibits == ()


DAMAGE = {
    "an edge to nowhere": (5, "edges", [[0, 99]]),
    "a kind of node that is none": (5, "nodes", [{"label": "x", "kind": "leave"}]),
    "a value that is no number": (1, "value", {"kind": "repr", "text": "one"}),
    "tensors of different shapes": (0, "got", {"kind": "tensor", "dtype": "float64", "shape": [2], "values": [1, 2]}),
    "a map that is no tensor": (0, "expected", "all of them"),
    "an exhibit of another kind": (3, "kind", "hologram"),
    "a step that is no number": (3, "steps", ["far"]),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_told(name):
    number, field, value = DAMAGE[name]
    # In the order of pages.EVERYTHING: map, two oracles, steps, lengths, program.
    data = recorded(EVERYTHING)
    data["reports"][0]["results"][0]["findings"][0]["exhibits"][number][field] = value
    with pytest.raises(UsageError, match="damaged"):
        record.from_record(data)
