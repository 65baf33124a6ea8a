"""Sources of a campaign: programs of a catalogue or a rule, and the checks of a gradient test."""

import json

import pytest

from gradharness.engine.campaign_sources import CheckSource, ProgramSource, program_of, replayed
from gradharness.errors import UsageError
from gradharness.programs.catalogue import Catalogue, catalogue, replaced
from gradharness.programs.op import Op
from tests.fakes import gradient_test


def wrong_sin(call, g):
    return -g * call.x.cos().conj()


def first_sighting(source, known=()):
    return next(s for n in range(50) for s in source.explore(1, n, known).sightings)


def test_a_program_of_the_catalogue_tells_its_ops():
    explored = ProgramSource("catalogue", catalogue()).explore(1, 0, ())
    assert explored.sightings == ()
    assert explored.ops


def test_a_wrong_rule_is_found_and_named_and_replays():
    source = ProgramSource("rules.py::wrong", replaced("sin", wrong_sin))
    seen = first_sighting(source)
    assert (seen.key, seen.source) == ("rules.py::wrong|sin|GRADIENT", "rules.py::wrong")
    assert seen.title == "the VJP of sin gives a wrong gradient of operand 0, in a program of 1 op"
    assert "guilty: node 0, v0 = torch.sin(x0)" in seen.text
    assert seen.replay in seen.text
    assert source.reexamine(seen.replay) == (seen,)
    mended = ProgramSource("rules.py::wrong", catalogue())
    assert mended.reexamine(seen.replay) == ()


def test_no_effort_is_spent_on_what_is_known():
    source = ProgramSource("r", replaced("sin", wrong_sin))
    explored = [source.explore(1, n, {"r|sin|GRADIENT"}) for n in range(30)]
    assert not any(e.sightings for e in explored)
    assert any(e.again == ("r|sin|GRADIENT",) for e in explored)


def test_a_fault_of_a_trusted_op_is_the_catalogues():
    wrong = replaced("tanh", lambda c, g: 2 * g)  # trusted, as long as it is not under test
    source = ProgramSource("r", Catalogue(wrong.ops, ("sin",)))
    seen = next(s for n in range(400) for s in source.explore(1, n, ()).sightings)
    assert (seen.key, seen.source) == ("catalogue|tanh|GRADIENT", "catalogue")


def test_an_op_that_no_program_uses_cannot_run():
    never = Op(name="never", forward=abs, vjp=lambda c, g: g, code="", formula="", parameters=lambda s, c: None)
    source = ProgramSource("r", catalogue().added(never))
    for number in range(199):
        source.explore(1, number, ())
    with pytest.raises(UsageError, match="none of 200 programs could use never: it takes no operands of shapes"):
        source.explore(1, 199, ())


@pytest.mark.parametrize("text", ["sin", "[1", "(1, 2)", "([], [], 0)", "__import__('os')"])
def test_what_is_no_program_is_told(text):
    with pytest.raises(UsageError):
        program_of(text)


def test_a_literal_is_tried_with_every_source_that_has_its_ops():
    cube = Op(name="cube", forward=lambda x: x**3, vjp=lambda c, g: g, code="{0} ** 3", formula="")
    sources = [ProgramSource("catalogue", catalogue()), ProgramSource("r", catalogue().added(cube))]
    found, able = replayed(sources, "([((), '')], [('cube', (0,), 0)], 0)")
    assert ([s.source for s in found], able) == (["r"], ("r",))
    with pytest.raises(UsageError, match="unknown op 'cubes'"):
        replayed(sources, "([((), '')], [('cubes', (0,), 0)], 0)")


# --- gradient tests ------------------------------------------------------------------------------------------------


def check_source(**outcomes):
    def test_f(x):
        return x

    return CheckSource("f.py::test_f", gradient_test(**outcomes)(test_f), lambda report, target: f"text for {target}")


def test_a_round_is_one_check_and_a_generation_all_of_them():
    source = check_source(value="pass", vjp="fail", linearity="undecided")
    assert source.explore(1, 0, ()).sightings == ()
    (seen,) = source.explore(1, 1, ()).sightings
    assert seen.key == "f.py::test_f|vjp|CONSTANT_FACTOR"
    assert seen.title == "test_f [vjp-cpu-float64]: constant factor"
    assert seen.text == "text for f.py::test_f"
    assert source.explore(1, 2, ()).undecided == "float32 differences are too coarse"


def test_generations_have_seeds_of_their_own_that_depend_on_nothing_else():
    source, again = check_source(vjp="fail", value="fail"), check_source(vjp="fail", value="fail")
    seeds = [json.loads(source.explore(1, n, ()).sightings[0].replay)["seed"] for n in range(4)]
    assert seeds[0] == seeds[1] != seeds[2] == seeds[3]
    assert json.loads(again.explore(1, 2, ()).sightings[0].replay)["seed"] == seeds[2]
    assert json.loads(again.explore(2, 2, ()).sightings[0].replay)["seed"] != seeds[2]


def test_a_finding_of_a_test_is_looked_at_with_its_item_and_seed():
    source = check_source(vjp="fail", value="pass")
    (seen,) = source.explore(1, 0, ()).sightings
    assert source.reexamine(seen.replay) == (seen,)
    assert check_source(vjp="pass").reexamine(seen.replay) == ()
    with pytest.raises(UsageError, match="is no replay of a gradient test"):
        source.reexamine("{}")


def test_a_check_that_is_known_to_fail_rests():
    source = check_source(vjp="fail")
    known = {"f.py::test_f|vjp|CONSTANT_FACTOR"}
    assert [bool(source.explore(1, n, known).again) for n in range(5)] == [True, False, False, False, True]


def test_warnings_alone_are_no_findings_unless_they_fail():
    assert check_source(vjp="warning").explore(1, 0, ()).sightings == ()


def test_a_check_that_ended_the_process_is_named_with_its_command():
    source = check_source(vjp="pass", value="pass")
    seen = source.ended(1, 1, 3)
    assert seen.key == "f.py::test_f|value|PROCESS_ENDED"
    assert "the process ended 3 times in [value-cpu-float64]" in seen.title
    assert "replay: gradharness check f.py::test_f --checks value --device cpu --dtype float64 --seed " in seen.text
    assert source.reexamine(seen.replay) == ()


def test_a_program_that_ended_the_process_is_named_with_its_literal():
    source = ProgramSource("catalogue", catalogue())
    assert source.reexamine(source.ended(1, 0, 3).replay) == ()
