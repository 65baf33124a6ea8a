"""The commands: ``check``, ``replay``, ``fuzz``, ``audit``, ``list``, ``explain``, ``schema``."""

from __future__ import annotations

import sys
import textwrap
import traceback
from pathlib import Path
from typing import Any

import click

from gradharness import __version__
from gradharness.cli.baselines import baseline
from gradharness.cli.output import WritingGroup
from gradharness.errors import GradharnessError, UnknownNameError, UsageError, first_line

CHECK_HELP = """Run gradient tests and say whether the backwards are right.

TARGET is PATH or PATH::NAME, where PATH is a Python file or a folder, or module:attribute. Without one, the `tests` of
[tool.gradharness] in the nearest pyproject.toml run; an option counts more than what stands there.

What fails is kept, and looked at first in the next run, if it lies in the folder of that pyproject.toml; without one,
in the current folder.

Exit status: 0 all right, 1 a gradient is wrong, 2 could not run, 3 undecided, 130 interrupted."""

FUZZ_HELP = """Search without end for wrong gradients, and keep what is found.

Tries random programs of all ops that have a VJP of gradharness's own and, with TARGETs (as of check), every VJP under
test (@vjp_of) in programs of trusted ops, and every check of every gradient test with one seed after another.

What is found is stored at once, and looked at again first the next time. Killed, and started again with the same
targets, the campaign goes on where it was. One seed gives the same campaign; time only says how far it gets.

Exit status: 0 nothing is wrong, 1 a gradient is wrong, 2 could not run, 130 interrupted."""

AUDIT_HELP = """Say which hand-written backwards the gradient tests cover.

PACKAGE is the name of a package, a folder or a file. Its source is read for torch.autograd.Functions, custom ops and
classes with a backward beside their forward; each gradient test is called once to see which of these it reaches. What
needs no test says so on its line: `class Name(...):  # gradharness: no-test REASON`.

Exit status: 0 all right, 1 less is covered than --fail-under asks for, 2 could not run, 130 interrupted."""

REPLAY_HELP = """Look at failures again that gradharness check or pytest has kept.

ID is that of a report's replay line, or the beginning of one; without any, all are looked at. Each is the same case, to
the bit, with the check that failed there. What is fixed stays as a regression test: it is looked at first in every run
of its test.

Exit status: 0 all fixed, 1 something still fails, 2 something could not run or a file was refused, 3 undecided,
130 interrupted."""

STORE_DEFAULT = "Default: that of pyproject.toml, or .gradharness."

_WHOLE: dict[str, Any] = {"break_on_hyphens": False}  # a word is searched for as it is written
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def _names(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    """A list with commas between."""
    names = tuple(part.strip() for part in value.split(",")) if value else ()
    if not all(names):
        raise click.BadParameter(f"{value!r} has an empty name in it")
    return names


@click.group(cls=WritingGroup, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="gradharness")
def main() -> None:
    """Property-based tests for hand-written backward code in PyTorch."""
    for stream in (sys.stdout, sys.stderr):
        # A report has signs such as ±; where the encoding has none, a replacement is better than a crash.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


@main.command(help=CHECK_HELP)
@click.argument("targets", metavar="[TARGET...]", nargs=-1)
@click.option(
    "--checks", callback=_names, default="", metavar="NAMES", help="Only these checks, such as vjp,linearity."
)
@click.option(
    "--device", "devices", callback=_names, default="", metavar="NAMES", help="On these devices, such as cpu,cuda."
)
@click.option(
    "--dtype", "dtypes", callback=_names, default="", metavar="NAMES", help="In these dtypes, such as float64,float32."
)
@click.option("--profile", metavar="NAME", help="How long to search: dev, ci (seed 0), deep, or one of the project's.")
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Draw the same examples again.")
@click.option("--strict", is_flag=True, help="A warning fails too.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False), metavar="FILE", help="Write a record.")
@click.option("--html", "html_path", type=click.Path(dir_okay=False), metavar="FILE", help="Write an HTML page.")
@click.option("--time-limit", type=click.FloatRange(min=0, min_open=True), metavar="S", help="Stop after S seconds.")
@click.option(
    "--annotate",
    type=click.Choice(["auto", "github", "plain", "none"]),
    help="Tie findings to lines, for CI or an editor. Default: auto, which is github where GITHUB_ACTIONS=true.",
)
@click.option("--store", metavar="FOLDER", help=f"Keep failures here, and look at those again first. {STORE_DEFAULT}")
@click.option("--no-store", is_flag=True, help="Keep nothing, and look at nothing again.")
@click.option(
    "-v", "--verbose", is_flag=True, help="Show all: what each oracle says, scripts, environment, tracebacks."
)
@click.option("--no-color", is_flag=True, help="Plain text.")
def check(targets: tuple[str, ...], json_path: str | None, *, verbose: bool, no_color: bool, **asked: Any) -> None:
    """Run gradient tests."""
    try:
        status = _check(targets, json_path, verbose=verbose, no_color=no_color, asked=asked)
    except UsageError as error:
        _complain(first_line(error, 1000), error, verbose=verbose)
        status = 2
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        status = 130
    sys.exit(status)


@main.command(help=REPLAY_HELP)
@click.argument("ids", metavar="[ID...]", nargs=-1)
@click.option("--store", default="", metavar="FOLDER", help=f"Where they are kept. {STORE_DEFAULT}")
@click.option("--prune", is_flag=True, help="Forget those that are fixed.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False), metavar="FILE", help="Write a record.")
@click.option("-v", "--verbose", is_flag=True, help="Show every failing one in full, and tracebacks.")
@click.option("--no-color", is_flag=True, help="Plain text.")
def replay(ids: tuple[str, ...], *, verbose: bool, **asked: Any) -> None:
    """Look at kept witnesses again."""
    try:
        status = _replay(ids, asked={**asked, "verbose": verbose})
    except UsageError as error:
        _complain(first_line(error, 1000), error, verbose=verbose)
        status = 2
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        status = 130
    sys.exit(status)


main.add_command(baseline)

_SECONDS = click.FloatRange(min=0, min_open=True)
_COUNT = click.IntRange(min=1)


@main.command(help=FUZZ_HELP)
@click.argument("targets", metavar="[TARGET...]", nargs=-1)
@click.option(
    "--max-time",
    type=_SECONDS,
    metavar="S",
    help="Stop after S seconds, when a round ends. Default: 60, or another bound.",
)
@click.option("--max-programs", type=_COUNT, metavar="N", help="Stop after N programs.")
@click.option("--max-rounds", type=_COUNT, metavar="N", help="Stop after N rounds: programs, and checks of tests.")
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Of all that is drawn. Default: the stored one.")
@click.option("--profile", metavar="NAME", help="Budget of one check of a test: dev, ci, deep, or the project's.")
@click.option("--store", default="", metavar="FOLDER", help=f"Where findings and position are kept. {STORE_DEFAULT}")
@click.option("--fresh", is_flag=True, help="Begin with an empty store; the old one is kept beside it.")
@click.option(
    "--replay", default="", metavar="N|PROGRAM", help="Look at one stored finding, or one program's literal, again."
)
@click.option("--json", "json_path", type=click.Path(dir_okay=False), metavar="FILE", help="Write a record.")
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks of what could not run.")
@click.option("--no-color", is_flag=True, help="Plain text.")
def fuzz(targets: tuple[str, ...], *, verbose: bool, **asked: Any) -> None:
    """Run a campaign."""
    try:
        status = _fuzz(targets, verbose=verbose, asked=asked)
    except UsageError as error:
        _complain(first_line(error, 1000), error, verbose=verbose)
        status = 2
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        status = 130
    sys.exit(status)


@main.command(help=AUDIT_HELP)
@click.argument("package", metavar="PACKAGE")
@click.option(
    "--tests",
    multiple=True,
    metavar="TARGET",
    help="Where gradient tests are, as for check; repeatable. Default: the configured tests, or the folder tests.",
)
@click.option("--fail-under", type=click.FloatRange(0, 100), metavar="PERCENT", help="Exit with 1 below this.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False), metavar="FILE", help="Write a record.")
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks of what could not run.")
@click.option("--no-color", is_flag=True, help="Plain text.")
def audit(package: str, *, verbose: bool, **asked: Any) -> None:
    """Say what gradient tests cover."""
    try:
        status = _audit(package, verbose=verbose, asked=asked)
    except UsageError as error:
        _complain(first_line(error, 1000), error, verbose=verbose)
        status = 2
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        status = 130
    sys.exit(status)


@main.command("list")
@click.option("--ops", is_flag=True, help="List the ops of programs in place of the checks.")
def list_checks(*, ops: bool) -> None:
    """List the checks, with what each proves."""
    from gradharness.checks import all_checks

    if ops:
        from gradharness.programs.catalogue import catalogue

        for op in sorted(catalogue().ops, key=lambda op: op.name):
            click.echo(f"{op.name.ljust(28)}{op.code}")
        return
    checks = all_checks()
    column = max(len(c.name) for c in checks) + 2
    for one in checks:
        text = textwrap.wrap(one.proves, 80 - column, **_WHOLE)
        click.echo(one.name.ljust(column) + f"\n{' ' * column}".join(text))


@main.command()
@click.argument("name", metavar="CHECK")
def explain(name: str) -> None:
    """Say what a check proves, what it cannot, and what a failure usually comes from."""
    from gradharness.checks import all_checks

    checks = {c.name: c for c in all_checks()}
    if name not in checks:
        _complain(str(UnknownNameError("check", name, checks)))
        sys.exit(2)
    click.echo(name)
    told = [("proves", checks[name].proves), ("cannot", checks[name].cannot)]
    told += [(f"cause: {cause}; remedy", remedy) for cause, remedy in checks[name].causes]
    for title, text in told:
        click.echo(textwrap.fill(f"{title}: {text}", 80, initial_indent="  ", subsequent_indent="    ", **_WHOLE))


@main.command(short_help="Print the JSON Schema of a file.")
@click.argument("name", default="record", metavar="[NAME]")
def schema(name: str) -> None:
    """Print the JSON Schema of a file: record (default), config, baseline, witness, replay, campaign or audit."""
    from gradharness.cli import schemas

    try:
        click.echo(schemas.text(name))
    except UnknownNameError as error:
        _complain(str(error))
        sys.exit(2)


def _check(
    targets: tuple[str, ...], json_path: str | None, *, verbose: bool, no_color: bool, asked: dict[str, Any]
) -> int:
    """Resolve, run, record; the exit status."""
    # torch is loaded here, not for --help.
    from gradharness.cli.annotating import annotated
    from gradharness.cli.configured import configured, give_defaults, targets_of
    from gradharness.cli.paging import page_path, write_page
    from gradharness.cli.replaying import keeping
    from gradharness.cli.session import Options, Session
    from gradharness.cli.targets import resolve
    from gradharness.report.annotations import style_of
    from gradharness.report.terminal import TerminalReporter, console

    _insist_on_folder(json_path)
    config = configured(asked["profile"])
    targets = targets_of(targets, config)
    style = style_of(asked.pop("annotate") or config.annotate)
    html = page_path(asked.pop("html_path"), config)
    folder, without = asked.pop("store"), asked.pop("no_store")
    options = Options(**asked)
    options.validate()
    found = resolve(targets)
    give_defaults(found.targets, config, asked)
    reporter = TerminalReporter(console(color=False if no_color else None), verbose=verbose)
    session = Session(options, reporter, errors=[(first_line(error, 1000), error) for error in found.errors])
    session.keeping = None if without else keeping(folder or "", config)
    session.run(found.targets)
    reporter.totals(tuple(session.reports))
    for line in annotated(zip(session.reported, session.reports, strict=True), style):
        click.echo(line)
    if json_path is not None:
        from gradharness.report import record

        record.dump(session.reports, json_path)
    if html is not None:
        write_page(html, session)
    for line, error in session.errors:
        _complain(line, error, verbose=verbose)
    for refused in session.keeping.refused if session.keeping is not None else ():
        _complain(f"warning: {refused}", refused, verbose=verbose)
    return int(session.status)


def _replay(ids: tuple[str, ...], *, asked: dict[str, Any]) -> int:
    """Look at kept witnesses again; the exit status."""
    _insist_on_folder(asked["json_path"])
    # torch is loaded here, not for --help.
    from gradharness.cli.replaying import Replaying, ReplayOptions

    replaying = Replaying(ReplayOptions(**asked))
    try:
        return int(replaying.run(ids))
    finally:
        for line, error in replaying.errors:
            _complain(line, error, verbose=asked["verbose"])


def _fuzz(targets: tuple[str, ...], *, verbose: bool, asked: dict[str, Any]) -> int:
    """Run a campaign; the exit status."""
    _insist_on_folder(asked["json_path"])
    # torch is loaded here, not for --help.
    from gradharness.cli.configured import configured
    from gradharness.cli.fuzzing import Fuzzing, FuzzOptions

    fuzzing = Fuzzing(FuzzOptions(**asked), configured(asked["profile"]))
    try:
        return int(fuzzing.run(targets))
    finally:
        for line, error in fuzzing.errors:
            _complain(line, error, verbose=verbose)


def _audit(package: str, *, verbose: bool, asked: dict[str, Any]) -> int:
    """Audit a package; the exit status."""
    _insist_on_folder(asked["json_path"])
    # torch is loaded here, not for --help.
    from gradharness.cli.auditing import Auditing, AuditOptions

    auditing = Auditing(AuditOptions(**asked))
    try:
        return int(auditing.run(package))
    finally:
        for line, error in auditing.errors:
            _complain(line, error, verbose=verbose)


def _insist_on_folder(json_path: str | None) -> None:
    if json_path is not None and not Path(json_path).absolute().parent.is_dir():
        raise UsageError(f"--json {json_path}: the folder does not exist; make it first")


def _complain(line: str, error: BaseException | None = None, *, verbose: bool = False) -> None:
    click.echo(f"gradharness: {line}", err=True)
    if verbose and error is not None:
        cause = error.__cause__ if isinstance(error, GradharnessError) and error.__cause__ else error
        click.echo("".join(traceback.format_exception(cause)), err=True, nl=False)
