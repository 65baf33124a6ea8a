"""The file: the same levels give the same bytes, diffs are lines, and nothing but a baseline is read as one."""

import random
import string

import pytest

from gradharness.baseline.form import MAX_BYTES, parse, render
from gradharness.baseline.model import Baseline, Entry, Key, Known, rounded
from gradharness.errors import BaselineError
from tests.baseline.levels import HERE, elsewhere, entry, key

KNOWN = Known(
    key=key("vjp", "b.py::test_g"), fault="sign", label="x['w']", reason="as in the paper", link="https://e.org"
)
FULL = Baseline(
    {
        key("vjp"): entry(error=1.2e-16, resolution=4.9e-06, cost=1.4, calls=255),
        key("leak"): entry(saved=512, calls=39),
        key("leak", device="cuda:1", dtype="float32"): entry(
            saved=256, environment=elsewhere(cuda="H100", torch="2.11.0")
        ),
        key("complex"): entry("skipped"),
        key("vjp", "b.py::test_g"): entry("fail"),
        key("vjp", "package.module:test_h"): entry("undecided"),
    },
    {KNOWN.key: KNOWN},
)
TEXT = render(FULL)


def edited(old, new):
    assert old in TEXT
    return TEXT.replace(old, new)


def refused(text, *words, source="b.toml"):
    content = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(BaselineError) as caught:
        parse(content, source)
    message = str(caught.value)
    assert message.startswith(source)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


def test_a_file_comes_back_as_it_was():
    again = parse(TEXT.encode(), "b.toml")
    assert dict(again.entries) == dict(FULL.entries)
    assert {k: (one.fault, one.label, one.reason, one.link) for k, one in again.known.items()} == {
        KNOWN.key: ("sign", "x['w']", "as in the paper", "https://e.org")
    }
    assert render(again) == TEXT


def test_the_text():
    lines = TEXT.splitlines()
    assert (
        'vjp-cpu-float64 = { verdict = "pass", error = 1.2e-16, resolution = 4.9e-06, cost = 1.4, calls = 255 }'
        in lines
    )
    assert 'complex-cpu-float64 = { verdict = "skipped" }' in lines
    assert '"leak-cuda:1-float32" = { verdict = "pass", saved = 256, environment = 2 }' in lines
    assert [line for line in lines if line.startswith("[tests")] == [
        '[tests."b.py::test_g"]',
        '[tests."package.module:test_h"]',
        '[tests."test_ops.py::test_f"]',
    ]
    assert lines[-6:] == [
        "[[known]]",
        'id = "b.py::test_g[vjp-cpu-float64]"',
        'fault = "sign"',
        "label = \"x['w']\"",
        'reason = "as in the paper"',
        'link = "https://e.org"',
    ]


def test_the_order_of_what_is_measured_does_not_matter():
    entries = list(FULL.entries.items())
    random.Random(0).shuffle(entries)
    assert render(Baseline(dict(entries), FULL.known)) == TEXT


def test_one_changed_level_is_one_changed_line():
    other = render(Baseline({**FULL.entries, key("leak"): entry(saved=1024, calls=39)}, FULL.known))
    changed = [(a, b) for a, b in zip(TEXT.splitlines(), other.splitlines(), strict=True) if a != b]
    assert len(changed) == 1
    assert "512" in changed[0][0]
    assert "1024" in changed[0][1]


def test_another_torch_for_all_is_one_changed_line():
    entries = {k: Entry(verdict="pass", environment=HERE) for k in (key("vjp"), key("leak"))}
    moved = {k: Entry(verdict="pass", environment=elsewhere(torch="2.14.0")) for k in entries}
    pairs = zip(render(Baseline(entries)).splitlines(), render(Baseline(moved)).splitlines(), strict=True)
    assert [pair for pair in pairs if pair[0] != pair[1]] == [('torch = "2.13.0"', 'torch = "2.14.0"')]


@pytest.mark.parametrize("text", ['quote " and \\ back', "ümlaut → 😀", "\x7f", "tab\tin it"], ids=repr)
def test_any_text_is_escaped(text):
    baseline = Baseline({key("vjp", f"{text}.py::t"): entry()})
    if text in ("\x7f", "tab\tin it"):  # it would reach a terminal
        refused(render(baseline), "damaged")
    else:
        assert dict(parse(render(baseline).encode(), "b").entries) == dict(baseline.entries)


@pytest.mark.parametrize(
    ("value", "kept"),
    [(1.2345e-16, 1.2e-16), (0.0, 0.0), (99.6, 100.0), (float("nan"), None), (float("inf"), None), (None, None)],
)
def test_two_digits_are_kept(value, kept):
    assert rounded(value) == kept


def test_a_known_failure_may_have_a_witness_id():
    text = edited('id = "b.py::test_g[vjp-cpu-float64]"', 'id = "3f2a91c0de"\ntest = "b.py::test_g[vjp-cpu-float64]"')
    (one,) = parse(text.encode(), "b.toml").known.values()
    assert (one.id, one.key) == ("3f2a91c0de", KNOWN.key)
    assert 'id = "3f2a91c0de"\ntest = ' in render(Baseline(FULL.entries, {one.key: one}))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["is no baseline of gradharness", "gradharness baseline record"]),
        ("[tool]\nname = 'other'\n", ["is no baseline of gradharness"]),
        ("gradharness-baseline = 1\n", ["is no baseline"]),
        ('{"schema_version": 1}', ["is not TOML"]),
        (b"\x80\x04\x95\x0c", ["is not TOML"]),
        (b"\xff\xfe[\x00", ["is not TOML"]),
        (TEXT[: len(TEXT) // 2], []),
        (edited("version = 1", "version = 2"), ["version 2", "reads up to 1", "update gradharness"]),
        (edited("version = 1", "version = 0"), ["damaged"]),
        (edited("version = 1", 'version = "1"'), ["damaged"]),
        (edited("error = 1.2e-16", "error = -1.2e-16"), ["damaged", "error"]),
        (edited("error = 1.2e-16", "error = nan"), ["damaged", "error"]),
        (edited("error = 1.2e-16", "error = inf"), ["damaged", "error = inf", "vjp-cpu-float64"]),
        (edited("error = 1.2e-16", 'error = "1.2e-16"'), ["damaged", "error"]),
        (edited("error = 1.2e-16", "errors = 1.2e-16"), ["damaged", "errors"]),
        (edited("error = 1.2e-16", "error = 1e-16, error = 2e-16"), ["is not TOML"]),
        (edited("saved = 512", "saved = 5.5"), ["damaged", "saved"]),
        (edited("saved = 512", "saved = -1"), ["damaged", "saved"]),
        (edited("saved = 512", f"saved = {10**30}"), ["damaged"]),
        (edited("saved = 512", f"saved = {'9' * 3000}"), ["damaged"]),
        (edited("saved = 512", "saved = 1979-05-27"), ["damaged", "saved"]),
        (edited('"skipped"', '"fine"'), ["damaged", "fine"]),
        (edited("complex-cpu-float64", "complex"), ["'complex'", "check-device-dtype"]),
        (edited("environment = 2", "environment = 7"), ["there is no [environment.7]"]),
        (edited('[tests."b.py::test_g"]', '[tests."test_ops.py::test_f"]'), ["is not TOML"]),
        (edited('reason = "as in the paper"', 'reason = " "'), ["known failure 1", "reason is empty"]),
        (edited('reason = "as in the paper"\n', ""), ["damaged", "reason"]),
        (edited('id = "b.py::test_g[vjp-cpu-float64]"', 'id = "3f2a91c0de"'), ["give test = beside the id"]),
        (TEXT + TEXT[TEXT.index("[[known]]") :], ["known failure 2", "already"]),
        (edited("as in the paper", "\\u001b[2J"), ["damaged"]),
        ("a = " + "[" * 3000, []),
        ("a = " + "[\n" * 20000, ["nested too deeply"]),
        ("a" + ".a" * 5000 + " = 1\n", ["line 1", "longer"]),
        ("#" * (MAX_BYTES + 1), ["bytes", "limit"]),
    ],
    ids=lambda value: repr(value)[-30:] if not isinstance(value, list) else "",
)
def test_what_is_no_baseline_is_told_in_one_line(text, words):
    refused(text, *words)


def flipped(content, draw):
    place = draw.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]


def cut(content, draw):
    return content[: draw.randrange(len(content))]


def renamed(content, draw):
    names = (b"verdict", b"error", b"tests", b"version", b"reason", b"environment", b"cpu", b"pass")
    return content.replace(draw.choice(names), draw.choice(names), draw.randrange(1, 3))


def repeated(content, draw):
    lines = content.split(b"\n")
    line = draw.randrange(len(lines))
    return b"\n".join([*lines[:line], lines[line], *lines[line:]])


def swapped(content, draw):
    lines = content.split(b"\n")
    one, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


def inserted(content, draw):
    place = draw.randrange(len(content))
    odd = "".join(draw.choice(string.printable + "\x00\x1b\u202e😀") for _ in range(draw.randrange(1, 40)))
    return content[:place] + odd.encode() + content[place:]


def other_value(content, draw):
    values = (b"nan", b"-1", b"1e999", b"[" * 500, b"{ a = { a = { a = 1 } } }", b"true", b'"""', b"9" * 5000, b"")
    lines = content.split(b"\n")
    line = draw.randrange(len(lines))
    before, equals, _ = lines[line].partition(b"=")
    lines[line] = before + equals + (b" " + draw.choice(values) if equals else b"")
    return b"\n".join(lines)


MUTATIONS = (flipped, cut, renamed, repeated, swapped, inserted, other_value)


def outcome(content):
    """The baseline, or why there is none."""
    try:
        return parse(content, "b.toml")
    except BaselineError as error:
        return str(error)


def test_a_thousand_damaged_files_are_refused_or_read_unharmed():
    draw = random.Random(0)
    refusals = 0
    for _ in range(1000):
        content = TEXT.encode()
        for _ in range(draw.randrange(1, 4)):
            content = draw.choice(MUTATIONS)(content, draw) or b"\n"
        found = outcome(content)
        if isinstance(found, str):
            refusals += 1
            assert found.startswith("b.toml")
            assert found.isprintable()
            assert len(found) < 1000
        else:
            assert all(isinstance(k, Key) and isinstance(e, Entry) for k, e in found.entries.items())
            assert dict(parse(render(found).encode(), "again").entries) == dict(found.entries)
    assert 500 < refusals < 950
