"""The HTML page of one ``gradharness check``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from gradharness import __version__
from gradharness.cli.session import Session
from gradharness.config import Config
from gradharness.errors import UsageError
from gradharness.report.html.extra import insist_on_extra


def page_path(asked: str | None, config: Config) -> str | None:
    """Where a page is wanted, if anywhere; before anything runs.

    Raises:
        UsageError: If it could not be written there, or the extra is missing.
    """
    path = asked or (config.here(config.html) if config.html else None)
    if path is None:
        return None
    insist_on_extra(f"--html {path}" if asked else f"html = {config.html!r}")
    if not Path(path).absolute().parent.is_dir():
        raise UsageError(f"--html {path}: the folder does not exist; make it first")
    return path


def write_page(path: str, session: Session) -> None:
    """Writes what is known, be it the whole or what an interruption has left.

    Raises:
        UsageError: The file cannot be written.
    """
    from gradharness.report.html.page import write
    from gradharness.report.html.view import About, Shown

    pairs = zip(session.reported, session.reports, strict=True)
    about = About(
        version=__version__,
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        errors=tuple(line for line, _ in session.errors),
        interrupted=session.interrupted,
    )
    write(path, [Shown(report=report, target=target.address) for target, report in pairs], about)
