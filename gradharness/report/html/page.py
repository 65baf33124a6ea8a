"""Reports as one page that needs nothing but itself: no network, no other file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, FunctionLoader, StrictUndefined

from gradharness.errors import UsageError
from gradharness.report.files import write_whole
from gradharness.report.html.view import PLAIN, About, Shown, page_view


def render(shown: Sequence[Shown], about: About = PLAIN) -> str:
    """The page. The same arguments give the same text.

    Args:
        shown: Reports, in the order in which they ran; those of one target become one subject.
        about: What is known of the run itself.
    """
    script = _source("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = _environment().get_template("page.html.j2")
    return template.render(page=page_view(shown, about), style=_source("page.css"), script=script, digest=digest)


def write(path: str | Path, shown: Sequence[Shown], about: About = PLAIN) -> None:
    """Writes the page; the file is either the old one or the whole new one. Arguments as of ``render``.

    Raises:
        UsageError: The file cannot be written.
    """
    text = render(shown, about)
    try:
        write_whole(Path(path), text.encode())
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; give a path in a folder that exists") from error


@cache
def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@cache
def _source(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
