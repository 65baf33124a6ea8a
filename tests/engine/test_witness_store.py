"""Kept witnesses on the disk: what is written comes back, whatever else lies there is refused and left alone."""

import io
import itertools
import json
import os
import pickle
import random
import signal
import struct
import time
import warnings
import zipfile

import msgspec
import pytest
import torch
from safetensors.torch import save

from gradharness.engine import witness_file
from gradharness.engine.kept import FORMAT, KeptStatus, KeptWitness, id_of, wrong_address
from gradharness.engine.witness_file import MAX_FILE, MAX_HEADER, read_file
from gradharness.engine.witness_store import Stored, WitnessStore, chosen
from gradharness.errors import StoreError, UnknownNameError, UsageError
from gradharness.model.verdict import Fault
from tests.engine.keepsakes import ITEM, NOW, fail, keeper

F64 = torch.float64


def values(kept):
    return {name: kept.value(node) for name, node in kept.arguments()}


def forged(entry, tensors=None):
    """The bytes of a file with a right digest and whatever entry."""
    text = json.dumps(entry) if not isinstance(entry, str) else entry
    tensors = tensors or {}
    header, data = witness_file._parts(save(tensors))
    digest = witness_file._digest(text, witness_file._described(header), data)
    return save(tensors, {"gradharness": text, "sha256": digest})


def plain_entry(path):
    return json.loads(msgspec.json.encode(read_file(path).entry))


# ------------------------------------------------------------------------------------------------- there and back


def test_what_is_kept_comes_back_to_the_bit(tmp_path):
    wide = torch.arange(12, dtype=F64).reshape(3, 4)
    arguments = (
        ("x", torch.tensor([0.1, float("nan"), -0.0, 5e-324], dtype=F64)),
        ("strided", wide.T[:, ::2]),
        ("expanded", torch.tensor([2.0], dtype=torch.bfloat16).expand(3, 4)),
        ("z", torch.tensor([1 + 2j], dtype=torch.complex128).conj()),
        ("nested", [{"a": torch.tensor([True, False])}, (torch.tensor(3), "text", None)]),
        ("empty", torch.zeros(0, 3, dtype=torch.float16)),
        ("limit", float("-inf")),
    )
    path = fail(keeper(tmp_path), arguments=arguments)
    kept = read_file(path)
    back = values(kept)
    for name, value in arguments:
        if isinstance(value, torch.Tensor):
            assert back[name].stride() == value.stride(), name
            assert back[name].dtype is value.dtype
            raw = value.resolve_conj()
            assert torch.equal(back[name].isnan(), raw.isnan())
            assert torch.equal(back[name].nan_to_num(), raw.nan_to_num())
    assert torch.signbit(back["x"][2])
    assert back["nested"][1][1:] == ("text", None)
    assert back["nested"][0]["a"].tolist() == [True, False]
    assert back["limit"] == float("-inf")
    assert torch.equal(kept.cotangents()[0], torch.tensor([[1.0, 0.5]], dtype=F64))
    assert (kept.entry.seed, kept.entry.fault, kept.entry.first_seen) == (17, "constant factor", NOW)


def test_values_that_no_file_can_hold_are_described(tmp_path):
    class Mode:
        def __repr__(self):
            return "Mode(\x1b[31m3)"

    surrogate = "\ud800"
    path = fail(keeper(tmp_path), arguments=(("mode", Mode()), ("text", surrogate), ("big", 2**80)))
    kept = read_file(path)
    for _, node in kept.arguments():
        with pytest.raises(LookupError):
            kept.value(node)
    assert dict(kept.arguments())["mode"].text == "Mode Mode( [31m3)"
    assert "\x1b" not in path.read_text(encoding="utf-8", errors="replace")


def test_a_tensor_that_is_too_large_is_left_to_the_recipe(tmp_path, monkeypatch):
    monkeypatch.setattr("gradharness.engine.kept.MAX_BYTES", 64)
    path = fail(keeper(tmp_path), arguments=(("x", torch.ones(9, dtype=F64)), ("y", torch.ones(8, dtype=F64))))
    kept = read_file(path)
    assert dict(kept.arguments())["x"].text == "float64[9]"
    assert torch.equal(kept.value(dict(kept.arguments())["y"]), torch.ones(8, dtype=F64))


def test_the_case_that_the_check_was_given_is_kept_and_not_what_it_made_of_it(tmp_path):
    from gradharness.model.case import Case
    from gradharness.model.subject import Primals

    x, w = torch.ones(2, dtype=F64), torch.tensor([3.0, 4.0], dtype=F64)
    drawn = Case(
        primals=Primals(("x",), (x,), ((0,),)),
        outputs=(x,),
        output_labels=("output",),
        differentiable=(0,),
        cotangents=(w,),
        other_cotangents=(w,),
        directions=(),
        recipe={},
    )
    kept = read_file(fail(keeper(tmp_path), drawn=drawn))
    assert torch.equal(values(kept)["x"], x)
    assert torch.equal(kept.cotangents()[0], w)


def test_the_same_failure_keeps_its_id_and_the_day_it_was_first_seen(tmp_path):
    first = fail(keeper(tmp_path))
    again = keeper(tmp_path, now="2026-05-05")
    assert fail(again) is None
    (kept,) = WitnessStore(tmp_path / ".gradharness").read().witnesses
    assert kept.id == first.stem
    assert (kept.entry.first_seen, kept.entry.last_seen) == (NOW, "2026-05-05")
    assert fail(again, fault=Fault.SIGN).stem != first.stem


def test_a_mark_changes_the_status_and_nothing_else(tmp_path):
    path = fail(keeper(tmp_path))
    store, before = WitnessStore(tmp_path / ".gradharness"), read_file(path)
    store.mark(before, KeptStatus.FIXED)
    after = read_file(path)
    assert (before.entry.status, after.entry.status) == (KeptStatus.FAILING, KeptStatus.FIXED)
    assert msgspec.structs.replace(after.entry, status=KeptStatus.FAILING) == before.entry
    assert torch.equal(values(after)["x"], values(before)["x"])
    untouched = path.stat().st_mtime_ns
    store.mark(after, KeptStatus.FIXED)
    assert path.stat().st_mtime_ns == untouched


def test_nothing_is_made_before_there_is_something_to_keep_and_git_does_not_see_it(tmp_path):
    at = keeper(tmp_path)
    assert at.keeping.stored().witnesses == ()
    assert not (tmp_path / ".gradharness").exists()
    fail(at)
    assert (tmp_path / ".gradharness" / ".gitignore").read_text() == "*\n"


def test_a_witness_is_found_by_the_beginning_of_its_id(tmp_path):
    ids = [fail(keeper(tmp_path), fault=fault).stem for fault in (Fault.SIGN, Fault.TRANSPOSED)]
    stored = WitnessStore(tmp_path / ".gradharness").read()
    assert chosen(stored, ids[0][:4]).id == ids[0]
    with pytest.raises(UnknownNameError, match="did you mean"):
        chosen(stored, ids[0][:-1] + "z")
    one = KeptWitness(msgspec.structs.replace(stored.witnesses[0].entry, id=ids[0][:9] + "f"), {})
    with pytest.raises(UsageError, match="give more of it"):
        chosen(Stored((*stored.witnesses, one)), ids[0][:3])


def test_a_full_disk_is_told_and_stops_nothing(tmp_path):
    at = keeper(tmp_path)
    (tmp_path / ".gradharness").write_text("a file where the folder should be")
    assert fail(at) is None
    assert "cannot" in str(at.keeping.refused[0])


# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("address", "wrong"),
    [
        ("test_ops.py::test_f", ""),
        ("a/b/test_ops.py::test_f", ""),
        ("package.module:test_f", ""),
        ("/etc/test_ops.py::test_f", "beneath"),
        ("../test_ops.py::test_f", "beneath"),
        ("a/../../test_ops.py::test_f", "beneath"),
        ("C:\\x.py::test_f", "beneath"),
        ("test_ops.sh::test_f", "beneath"),
        ("test_ops.py::test_f()", "no name"),
        ("test_ops.py", "neither"),
        ("os:system('x')", "neither"),
    ],
)
def test_an_address_names_a_test_beneath_the_root(address, wrong):
    assert (wrong in wrong_address(address)) if wrong else wrong_address(address) == ""


def change(path, **fields):
    """The entry with other fields, and the id that fits them."""
    entry = {**plain_entry(path), **fields}
    if "id" not in fields and all(isinstance(entry[k], str) for k in ("address", "fault", "label")):
        entry["id"] = id_of(entry["address"], ITEM, entry["fault"], entry["label"])
    return entry


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, ""),
        ({"address": "../../evil.py::test_f"}, "beneath the root"),
        ({"address": "/tmp/evil.py::test_f"}, "beneath the root"),
        ({"address": "a\0b.py::test_f"}, "damaged"),
        ({"message": "\x1b]0;title\x07"}, "damaged"),
        ({"message": "m" * 3000}, "damaged"),
        ({"id": "0123456789"}, "its id"),
        ({"id": "../../../ab"}, "damaged"),
        ({"format": FORMAT + 1}, "reads up to"),
        ({"format": 0}, "damaged"),
        ({"seed": -1}, "damaged"),
        ({"seed": 10**30}, "damaged"),
        ({"status": "splendid"}, "damaged"),
        ({"device": "cpu; rm -rf /"}, "damaged"),
        ({"last_seen": "yesterday"}, "damaged"),
        ({"unheard": 1}, "damaged"),
        ({"recipe": {"sizes": {"n": 10**12}}}, "beyond"),
        ({"recipe": {"batches": {"b": [10**12]}}}, "beyond"),
        ({"recipe": {"batches": {"b": [1] * 99}}}, "beyond"),
        ({"recipe": {"sizes": {"n": "many"}}}, "whole number"),
        ({"recipe": {"style": "baroque"}}, "style"),
        ({"recipe": {"code": "print()"}}, "unknown field"),
        ({"recipe": []}, "damaged"),
        ({"arguments": [["x", {"kind": "tensor", "name": "9", "dtype": "float64"}]]}, "tensors are not"),
        ({"arguments": [["x", {"kind": "pickle", "name": "0"}]]}, "damaged"),
        ({"arguments": [["x", {"kind": "tensor", "name": "0", "dtype": "float32"}]]}, "no float32"),
        ({"arguments": [["x", {"kind": "tensor", "name": "0", "dtype": "qint8"}]]}, "no dtype"),
        (
            {"arguments": [["x", {"kind": "tensor", "name": "0", "dtype": "float64", "stride": [2**40, 1]}]]},
            "",
        ),
        (
            {"arguments": [["x", {"kind": "tensor", "name": "0", "dtype": "float64", "stride": [1, 2**40]}]]},
            "strides",
        ),
        ({"arguments": [["x", {"kind": "tensor", "name": "0", "dtype": "float64", "stride": [1]}]]}, "strides"),
    ],
)
def test_an_entry_is_refused_with_the_reason(tmp_path, fields, reason):
    path = fail(keeper(tmp_path))
    tensors = dict(read_file(path).tensors)
    entry = change(path, **fields)
    fitting = isinstance(entry["id"], str) and len(entry["id"]) == 10 and "/" not in entry["id"]
    target = path.with_name(f"{entry['id']}.safetensors") if fitting else path
    path.unlink()
    target.write_bytes(forged(entry, tensors))
    if not reason:
        assert read_file(target).entry.address == entry["address"]
        return
    with pytest.raises(StoreError, match=reason) as caught:
        read_file(target)
    assert str(target) in str(caught.value)
    assert "delete it, or move it elsewhere" in str(caught.value)
    assert target.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cut short"),
        (b"{}", "cut short"),
        (struct.pack("<Q", 2**60) + b"{}", "cut short"),
        (struct.pack("<Q", MAX_HEADER + 1) + b" " * (MAX_HEADER + 2), "cut short"),
        (save({"x": torch.ones(2)}), "no file of gradharness"),
        (b"\x80\x04\x95" + b"\x00" * 40, "cut short"),
        (struct.pack("<Q", 6) + b"[[[[[[" + b"[" * 50_000, "damaged"),
        (struct.pack("<Q", 100_000) + b"[" * 100_000, "damaged|nested"),
        (struct.pack("<Q", 100_000) + (b'{"a":' * 20_000), "nested|damaged"),
        (forged("[" * 60_000), "nested|damaged"),
        (forged('{"format":1'), "damaged"),
        (forged({"some": "other json"}), "damaged"),
    ],
)
def test_bytes_that_are_no_witness_are_refused_with_the_reason(tmp_path, content, reason):
    path = tmp_path / "0123456789.safetensors"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=reason):
        read_file(path)


def test_a_header_that_promises_more_than_there_is_allocates_nothing(tmp_path):
    header = json.dumps({"x": {"dtype": "F64", "shape": [10**12], "data_offsets": [0, 8 * 10**12]}}).encode()
    path = tmp_path / "0123456789.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(StoreError, match="damaged"):
        read_file(path)


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "0123456789.safetensors"
    with path.open("wb") as file:
        file.truncate(MAX_FILE + 1)
    with pytest.raises(StoreError, match=f"more than {MAX_FILE}"):
        read_file(path)


def test_links_pipes_folders_and_foreign_names_are_refused_and_the_others_are_read(tmp_path):
    good = fail(keeper(tmp_path))
    place = good.parent
    (place / "1111111111.safetensors").symlink_to(good)
    os.mkfifo(place / "2222222222.safetensors")
    (place / "3333333333.safetensors").mkdir()
    (place / "notes.txt").write_text("mine")
    (place / ("A" * 10 + ".safetensors")).write_bytes(good.read_bytes())
    (place / ".0123456789.x.tmp").write_bytes(b"half of a file that a killed process has left")
    stored = WitnessStore(tmp_path / ".gradharness").read()
    assert [w.id for w in stored.witnesses] == [good.stem]
    told = "\n".join(map(str, stored.refused))
    assert len(stored.refused) == 5
    for word in ("it is a link", "it is no plain file", "its name is none of a kept witness", "notes.txt"):
        assert word in told
    assert (place / "notes.txt").read_text() == "mine"


def test_a_store_that_is_a_link_is_refused(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / ".gradharness").mkdir()
    (tmp_path / ".gradharness" / "witnesses").symlink_to(elsewhere)
    (refused,) = WitnessStore(tmp_path / ".gradharness").read().refused
    assert "is a link" in str(refused)


class _Payload:
    """Would leave a file behind if anybody unpickled it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def mutated(draw, content, marker):
    """Something that is not what was written, or only as far as chance has it."""
    kind = draw.randrange(9)
    data = bytearray(content)
    if kind in (0, 1, 2):  # bits
        for _ in range(draw.choice((1, 1, 2, 30))):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif kind == 3:
        del data[draw.randrange(len(data)) :]
    elif kind == 4:
        data += draw.randbytes(draw.randrange(1, 3000))
    elif kind == 5:  # the header's length
        data[:8] = struct.pack("<Q", draw.choice((0, 1, len(data), 2**31, 2**63, 2**64 - 1, draw.randrange(3000))))
    elif kind == 6:
        first = draw.randrange(len(data))
        data[first : first + draw.randrange(40)] = draw.choice(
            (b"[" * 999, b"9" * 400, b"\0", b'"../../x"', b"\xff\xfe")
        )
    elif kind == 7:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("data.pkl", pickle.dumps(_Payload(marker)))
        data = bytearray(draw.choice((pickle.dumps(_Payload(marker)), buffer.getvalue())))
    else:
        depth = draw.randrange(1, 5000)
        foreign = draw.choice(("[" * depth + "]" * depth, '{"schema_version": 1}', "1" * depth, "null", "{}"))
        data = bytearray(foreign.encode() if draw.random() < 0.3 else forged(foreign))
    return bytes(data)


def attempt(path):
    try:
        return read_file(path), ""
    except StoreError as error:
        return None, str(error)


def test_a_thousand_mutated_files_are_refused_or_read_unharmed(tmp_path):
    draw = random.Random(20260102)
    marker = tmp_path / "executed"
    good = fail(keeper(tmp_path), arguments=(("x", torch.randn(3, 2, generator=torch.Generator().manual_seed(1))),))
    content, entry, x = good.read_bytes(), read_file(good).entry, values(read_file(good))["x"]
    path = tmp_path / good.name
    refused = 0
    for number in range(1000):
        bad = mutated(draw, content, marker)
        name = path if draw.random() < 0.9 else path.with_name(f"{number:010x}.safetensors")
        name.write_bytes(bad)
        kept, told = attempt(name)
        if kept is None:
            refused += 1
            assert str(name) in told
            assert told.isprintable(), number
        else:
            assert kept.entry == entry, number
            assert torch.equal(values(kept)["x"], x), number
        assert name.read_bytes() == bad
        name.unlink()
    assert refused > 990
    assert not marker.exists()


# ----------------------------------------------------------------------------------------- processes that end or meet


def forked(act):
    """Runs something in a process of its own, which has all that this one has loaded; its number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there are threads under xdist; the child touches none of them
        pid = os.fork()
    if pid == 0:
        try:
            act()
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def status(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def write(folder, name, numbers):
    for number in numbers:
        fail(keeper(folder, f"test_ops.py::test_{name}_{number % 40}"))


def test_a_kill_at_any_moment_leaves_all_that_was_kept_readable(tmp_path):
    draw, store = random.Random(5), WitnessStore(tmp_path / ".gradharness")
    kept = set()
    for _ in range(8):
        pid = forked(lambda: write(tmp_path, "a", itertools.count()))
        started = time.monotonic()
        while len(store.read().witnesses) <= len(kept) and time.monotonic() < started + 60:
            time.sleep(draw.random() / 50)
        # What is written while this process looks is always whole as well.
        seen = [store.read() for _ in range(draw.randrange(1, 5))]
        os.kill(pid, signal.SIGKILL)
        assert status(pid) == -signal.SIGKILL
        after = store.read()
        assert not any(one.refused for one in (*seen, after))
        assert {w.id for one in seen for w in one.witnesses} | kept <= {w.id for w in after.witnesses}
        kept = {w.id for w in after.witnesses} if len(after.witnesses) < 40 else set()
        if not kept:
            for witness in after.witnesses:
                store.delete(witness.id)


def test_a_write_that_is_killed_at_each_step_leaves_the_old_file_or_the_new_one(tmp_path, monkeypatch):
    path = fail(keeper(tmp_path))
    store, before = WitnessStore(tmp_path / ".gradharness"), read_file(path)

    for name in ("fsync", "chmod", "replace", "unlink"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            pid = forked(lambda: store.mark(before, KeptStatus.FIXED))
        assert status(pid) == (0 if name == "unlink" else -signal.SIGKILL)
        stored = store.read()
        assert stored.refused == ()
        assert stored.witnesses[0].entry.status is (KeptStatus.FIXED if name == "unlink" else KeptStatus.FAILING)


def test_two_processes_at_once_lose_nothing(tmp_path):
    pids = [forked(lambda name=name: write(tmp_path, name, range(40))) for name in ("a", "b", "b")]
    assert [status(pid) for pid in pids] == [0, 0, 0]
    stored = WitnessStore(tmp_path / ".gradharness").read()
    assert stored.refused == ()
    assert len({w.entry.address for w in stored.witnesses}) == 80
