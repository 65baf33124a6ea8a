"""The README is run: its code works, its first screen prints the report that it shows, its commands exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
REPORT = next(code for language, code in BLOCKS if language == "text")
COMMANDS = [code.strip() for language, code in BLOCKS if language == "sh"]


def without_numbers(text: str) -> str:
    """The text with every number masked, and line breaks and columns evened out: digits differ between machines."""
    return " ".join(re.sub(r"[-+]?\d[\d.]*(e[-+]?\d+)?", "#", text).split())


def test_the_first_screen_prints_the_report_that_it_shows(tmp_path):
    from gradharness.cli.loading import load_file
    from gradharness.report.text import render

    file = tmp_path / "test_ops.py"
    file.write_text(PYTHON[0], encoding="utf-8")
    test = load_file(file).test_linear
    shown = render(test.run(seed=1), target="test_ops.py::test_linear").rpartition("\n\n")[0]
    assert without_numbers(shown) == without_numbers(REPORT)


def test_gradcheck_passes_the_first_screen_as_the_readme_says():
    import torch

    namespace = {"__name__": "test_ops"}
    exec(PYTHON[0], namespace)
    inputs = [torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((3, 4), (2, 4), (2,))]
    function = namespace["ClippingLinear"].apply
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("number", range(1, len(PYTHON)))
def test_the_other_blocks_run(number, tmp_path):
    script = tmp_path / "block.py"
    script.write_text(PYTHON[number], encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_two_commands_do_the_set_up():
    main_job, tests = COMMANDS
    assert main_job.endswith("gradharness check examples/logistic_regression.py")
    assert tests.endswith("coverage run -m pytest -n auto")
    assert all("-c constraints.txt" in command for command in COMMANDS)


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()
