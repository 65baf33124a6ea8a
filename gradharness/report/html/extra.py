"""Whether the extra ``html`` is installed; asked before a run, so that no result is lost for want of it."""

from __future__ import annotations

from importlib.util import find_spec

from gradharness.errors import UsageError

NEEDS = ("jinja2", "matplotlib")


def insist_on_extra(option: str) -> None:
    """Raises ``UsageError`` with the remedy if the page could not be made.

    Args:
        option: Which asks for the page, such as ``--html``.
    """
    missing = [name for name in NEEDS if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"{option} needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed: "
            'pip install "gradharness[html]"'
        )
