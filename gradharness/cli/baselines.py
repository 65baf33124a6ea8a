"""``gradharness baseline record|compare|show``: the commands, and what they take."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import click

from gradharness.errors import UsageError, first_line

RECORD_HELP = """Record the levels of gradient tests in the baseline.

TARGET is as of check. Entries of other tests stay as they are; those of tests that are gone from the targets go. A test
with a check that fails is left out, unless --known says why the failure is accepted.

Exit status: 0 recorded, 1 a test fails and was left out, 2 could not run, or the file is not in order, 130
interrupted."""

COMPARE_HELP = """Compare gradient tests with the baseline.

Without TARGET it runs the `tests` of [tool.gradharness], and every file that the baseline names. Profile and seed are
those that were recorded, unless asked for otherwise.

It fails on a check that is worse than recorded: failing, undecided, its error level, resolution, saved bytes or cost
grown beyond --fail-on; and on a check or test that is gone. What another machine or version changes is told, and not
compared.

Exit status: 0 no regression, 1 regression, 2 could not run, or the file is not in order, 130 interrupted."""

SHOW_HELP = """Print the baseline, or what it has of the TARGETs: files, folders, or tests."""

Command = TypeVar("Command", bound=Callable[..., Any])


def _names(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in value.split(",")) if value else ()
    if not all(names):
        raise click.BadParameter(f"{value!r} has an empty name in it")
    return names


def _of_a_run(command: Command) -> Command:
    """The options that record and compare share."""
    options = (
        click.option("--checks", callback=_names, default="", metavar="NAMES", help="Only these checks."),
        click.option("--device", "devices", callback=_names, default="", metavar="NAMES", help="On these devices."),
        click.option("--dtype", "dtypes", callback=_names, default="", metavar="NAMES", help="In these dtypes."),
        click.option("--profile", metavar="NAME", help="How long to search. Default: as recorded, or ci."),
        click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Default: as recorded, or 0."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _of_all(command: Command) -> Command:
    """The argument and options of every command."""
    options = (
        click.argument("targets", metavar="[TARGET...]", nargs=-1),
        click.option(
            "--file",
            metavar="FILE",
            help="The baseline. Default: that of pyproject.toml, or gradharness-baseline.toml.",
        ),
        click.option("-v", "--verbose", is_flag=True, help="Show whole reports, and tracebacks of what could not run."),
        click.option("--no-color", is_flag=True, help="Plain text."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def baseline() -> None:
    """Record the levels of gradient tests, and fail when they get worse."""


@baseline.command(help=RECORD_HELP)
@_of_all
@_of_a_run
@click.option("--known", metavar="REASON", help="Accept the failures that there are, for this reason.")
@click.option("--link", default="", metavar="URL", help="With --known: where more is told of it.")
def record(*, verbose: bool, **asked: Any) -> None:
    """Record."""
    from gradharness.cli.sitting import Asked, Sitting  # torch is loaded here, not for --help

    known, link = asked.pop("known"), asked.pop("link")
    _leave(lambda: _status(Sitting(Asked(verbose=verbose, **asked)), "record", known=known, link=link), verbose=verbose)


@baseline.command(help=COMPARE_HELP)
@_of_all
@_of_a_run
@click.option(
    "--fail-on",
    multiple=True,
    metavar="FIGURE:FACTOR",
    help="Growth that fails, such as error:2x,cost:off. Figures: error, resolution, saved, cost, calls.",
)
@click.option("--strict", is_flag=True, help="What is new, mended or not compared fails too.")
def compare(*, verbose: bool, **asked: Any) -> None:
    """Compare."""
    from gradharness.cli.sitting import Asked, Sitting

    fail_on, strict = asked.pop("fail_on"), asked.pop("strict")
    sitting = Sitting(Asked(verbose=verbose, **asked))
    _leave(lambda: _status(sitting, "compare", fail_on=fail_on, strict=strict), verbose=verbose)


@baseline.command(help=SHOW_HELP, short_help="Print the baseline.")
@_of_all
def show(*, verbose: bool, **asked: Any) -> None:
    """Show."""
    from gradharness.cli.sitting import Asked, Sitting

    _leave(lambda: _status(Sitting(Asked(verbose=verbose, **asked)), "show"), verbose=verbose)


def _status(sitting: Any, command: str, **options: Any) -> int:
    """Runs a command; complains of what could not run, which is worth a 2 where nothing is wrong."""
    status = int(getattr(sitting, command)(**options))
    for line, error in sitting.errors:
        _complain(line, error, verbose=sitting.asked.verbose)
    return status


def _leave(command: Callable[[], int], *, verbose: bool) -> None:
    try:
        status = command()
    except UsageError as error:
        _complain(first_line(error, 1000), error, verbose=verbose)
        status = 2
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        status = 130
    sys.exit(status)


def _complain(line: str, error: BaseException, *, verbose: bool) -> None:
    click.echo(f"gradharness: {line}", err=True)
    if verbose:
        click.echo("".join(traceback.format_exception(error.__cause__ or error)), err=True, nl=False)
