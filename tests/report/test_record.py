"""A record comes back as it was, and what is no record is told so in one line."""

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradharness.engine.plan import Item
from gradharness.errors import UsageError
from gradharness.model.verdict import Report
from gradharness.report import codec, record
from tests.fakes import ERROR, WITNESS, result

INF, NAN = float("inf"), float("nan")


def same_tensor(a: torch.Tensor, b: object) -> bool:
    if not isinstance(b, torch.Tensor) or (a.dtype, a.shape, a.stride()) != (b.dtype, b.shape, b.stride()):
        return False
    return torch.equal(torch.nan_to_num(a, nan=77), torch.nan_to_num(b, nan=77)) and torch.equal(a != a, b != b)


def same(a: object, b: object) -> bool:
    """Equality that sees NaN, dtype and strides."""
    if isinstance(a, torch.Tensor):
        return same_tensor(a, b)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, complex) and isinstance(b, complex):
        return same((a.real, a.imag), (b.real, b.imag))
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return type(a) is type(b) and a == b


def report(**witness):
    finding = replace(ERROR, witness=replace(WITNESS, **witness), reproducer="import torch\n")
    names = ("pass", "fail", "undecided", "skipped", "warning")
    results = [result(Item(f"check{n}", "cpu", "float64"), name) for n, name in enumerate(names)]
    results[1] = replace(results[1], findings=(finding,))
    return Report(subject="f", results=tuple(results), domain=("x",), notes=("n",), environment=(("torch", "2"),))


def parts(one):
    """A report without its tensors, and its tensors."""
    witness = one.findings[0].witness
    tensors = (witness.arguments, witness.cotangents, witness.whole, witness.whole_bound)
    bare = replace(witness, arguments=(), cotangents=(), whole=None, whole_bound=0.0)
    results = tuple(
        replace(r, findings=tuple(replace(f, witness=f.witness and bare) for f in r.findings)) for r in one.results
    )
    return replace(one, results=results), tensors


def test_reports_come_back_as_they_were(tmp_path):
    path = tmp_path / "record.json"
    record.dump([report(), report()], path)
    loaded = record.load(path)
    assert len(loaded) == 2
    for one in loaded:
        assert parts(one)[0] == parts(report())[0]
        assert same(parts(one)[1], parts(report())[1])


def test_the_file_is_json_with_a_version_that_any_reader_can_use(tmp_path):
    path = tmp_path / "record.json"
    record.dump([report(expected=NAN, bound=INF)], path)

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    data = json.loads(path.read_text(), parse_constant=refuse)
    assert (data["schema_version"], data["tool"]) == (1, "gradharness")
    assert data["reports"][0]["verdict"] == "fail"
    assert data["reports"][0]["results"][0]["verdict"] == "pass"
    assert data == record.to_record([report(expected=NAN, bound=INF)])


VALUES = [
    None,
    True,
    3,
    1.5,
    NAN,
    INF,
    -INF,
    1 + 2j,
    complex(NAN, INF),
    "text",
    torch.float32,
    (1, [2, (3,)]),
    {"a": 1, "b": (2,)},
    {"kind": "tensor"},
    {1: "a", (2, 3): "b"},
    torch.tensor([[1.0, NAN], [INF, -INF]]),
    torch.tensor([1.1], dtype=torch.bfloat16),
    torch.tensor([1 + 2j, complex(NAN, 1)], dtype=torch.complex64),
    torch.tensor([2**62, -1]),
    torch.tensor([True, False]),
    torch.tensor(2.5),
    torch.zeros(0, 3),
    torch.zeros(2, 0),
    torch.arange(6.0).reshape(2, 3).T,
    torch.arange(6.0)[::2],
    torch.tensor([1.0, 2.0]).expand(3, 2),
    torch.tensor(1.0).expand(2, 2),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_through_json(value):
    assert same(codec.decode(json.loads(json.dumps(codec.encode(value), allow_nan=False))), value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.complex_numbers(),
        lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    )
)
def test_any_nested_value_comes_back(value):
    assert same(codec.decode(json.loads(json.dumps(codec.encode(value), allow_nan=False))), value)


def test_a_foreign_object_becomes_its_repr():
    assert codec.decode(codec.encode(slice(1, 2))) == "slice(1, 2, None)"


def test_a_big_tensor_is_abbreviated_with_a_note():
    data = codec.encode(torch.zeros(101, 100))
    assert data["note"] == "values not recorded: float32[101, 100] has 10100 elements"
    back = codec.decode(data)
    assert (back.shape, back.dtype, back.device.type) == ((101, 100), torch.float32, "meta")


def test_elements_that_overlap_come_back_contiguous():
    value = torch.arange(4.0).unfold(0, 2, 1)
    assert torch.equal(codec.decode(codec.encode(value)), value)


@pytest.mark.parametrize(
    "data",
    [
        {"kind": "other"},
        {"kind": []},
        {"kind": "tensor"},
        {"kind": "tensor", "dtype": "nn", "shape": [1], "values": [1]},
        {"kind": "tensor", "dtype": "float32", "shape": [3], "values": [1]},
        {"kind": "tensor", "dtype": "float32", "shape": [1], "values": ["x"]},
        {"kind": "tuple", "items": 3},
    ],
    ids=str,
)
def test_malformed_values_are_value_errors(data):
    with pytest.raises(ValueError, match=r"malformed|unknown kind|could not convert"):
        codec.decode(data)


GOOD = record.to_record([report()])


def damaged(**changes):
    return json.dumps({**GOOD, **changes})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON"),
        (json.dumps(GOOD)[:-40], "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        ("[1, 2]", "is not a record of gradharness"),
        ('{"schema_version": 1}', "is not a record of gradharness"),
        (damaged(schema_version="one"), "is not a record of gradharness"),
        (damaged(tool="coverage"), "was written by 'coverage'"),
        (damaged(schema_version=2), "has schema_version 2, this gradharness reads up to 1; update gradharness"),
        (damaged(reports=[{"subject": "f"}]), "is damaged"),
        (damaged(reports=3), "is damaged"),
        (json.dumps(GOOD).replace('"verdict": "pass"', '"verdict": "maybe"'), "is damaged"),
        (json.dumps(GOOD).replace("constant factor", "no such fault"), "is damaged"),
        (json.dumps(GOOD).replace('"kind": "tensor"', '"kind": "other"'), "is damaged"),
    ],
)
def test_what_is_no_record_is_a_usage_error_of_one_line(tmp_path, content, message):
    path = tmp_path / "record.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=message) as caught:
        record.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_missing_folder_are_usage_errors(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read .*: No such file or directory; give a file"):
        record.load(tmp_path / "no.json")
    with pytest.raises(UsageError, match=r"cannot write .*: No such file or directory; give a path"):
        record.dump([], tmp_path / "no" / "record.json")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    record.dump([], path)
    before = path.read_bytes()

    def broken(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(UsageError, match="No space left on device"):
        record.dump([report()], path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_plain_data_that_is_no_record_is_a_usage_error():
    assert record.from_record(GOOD)[0].subject == "f"
    with pytest.raises(UsageError, match="the record is not a record of gradharness"):
        record.from_record({})
