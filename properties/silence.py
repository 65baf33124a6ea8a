"""Gives correct subjects to ``gradharness.check`` as users do, with all checks, and reports every FAIL.

Where PyTorch's own gradient is wrong, the alarm is right: such are pinned in ``pinned_alarms``, and any other one
makes the exit code 1.

python -m properties.silence
python -m properties.silence --only softmax --seed 3
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from gradharness import Report, Severity, Verdict, check
from gradharness.model.verdict import Finding
from properties import catalogue_handwritten, correct_functions, correct_handwritten, pinned_alarms
from properties.subjects import Correct, of_entry

HANDWRITTEN = (*correct_handwritten.SUBJECTS, *map(of_entry, catalogue_handwritten.ENTRIES))
SUBJECTS: tuple[Correct, ...] = (*HANDWRITTEN, *correct_functions.SUBJECTS)


@dataclass(frozen=True)
class Heard:
    """What was said of one subject.

    Attributes:
        name: The subject's.
        report: The report; None if the call raised.
        seconds: Time that it took.
        raised: What was raised.
    """

    name: str
    report: Report | None
    seconds: float
    raised: str = ""

    @property
    def alarms(self) -> list[str]:
        """What a user would read as an error, and nothing but a mistake of ours explains."""
        news = [_told(f) for f in self._found(Severity.ERROR) if not pinned_alarms.reason(self.name, f)]
        broken = [text for text in self.undecided if "internal error" in text]
        return news + broken if self.report else [self.raised]

    @property
    def pinned(self) -> list[str]:
        """What a user would read as an error, where PyTorch is wrong, with what is wrong in it."""
        found = [(_told(f), pinned_alarms.reason(self.name, f)) for f in self._found(Severity.ERROR)]
        return [f"{text} ({reason})" for text, reason in found if reason]

    @property
    def warnings(self) -> list[str]:
        """What a user would read as a warning."""
        return [_told(f) for f in self._found(Severity.WARNING)]

    def _found(self, severity: Severity) -> list[Finding]:
        return [f for f in self.report.findings if f.severity is severity] if self.report else []

    @property
    def undecided(self) -> list[str]:
        """Checks without a decision, with their reasons."""
        results = self.report.results if self.report else ()
        return [f"{r.check}: {r.reason}" for r in results if r.verdict is Verdict.UNDECIDED]


def _told(finding: Finding) -> str:
    return f"{finding.check}: {finding.message}"


def listen(one: Correct, seed: int, checks: Sequence[str] | None = None) -> Heard:
    """One subject through the catalogue (or some of its checks)."""
    started = time.monotonic()
    try:
        report = check(one.subject, one.inputs(seed), seed=seed, checks=checks, **one.options)
    except Exception as error:  # what a user would see as a traceback
        return Heard(one.name, None, time.monotonic() - started, f"{type(error).__name__}: {error}")
    return Heard(one.name, report, time.monotonic() - started)


def chosen(count: int | None, seed: int, only: str = "", subjects: Sequence[Correct] = SUBJECTS) -> list[Correct]:
    """So many subjects, drawn without repetition; all by default."""
    found = [one for one in subjects if only in one.name]
    if count is None or count >= len(found):
        return found
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))[:count]
    return [found[i] for i in order.tolist()]


def summary(heard: Iterable[Heard]) -> str:
    """Counts, and the time per subject."""
    heard = list(heard)
    seconds = sorted(h.seconds for h in heard) or [0.0]
    undecided = Counter(text.partition(":")[0] for h in heard for text in h.undecided)
    warned = Counter(name for h in heard for name in {text.partition(":")[0] for text in h.warnings})
    lines = [
        f"{len(heard)} subjects, {sum(bool(h.alarms) for h in heard)} with a false alarm, "
        f"{sum(bool(h.pinned) for h in heard)} with an alarm that PyTorch has earned, "
        f"{sum(bool(h.warnings) for h in heard)} with a warning, {sum(bool(h.undecided) for h in heard)} undecided",
        f"seconds per subject: median {seconds[len(seconds) // 2]:.2f}, largest {seconds[-1]:.2f}, "
        f"total {sum(seconds):.0f}",
    ]
    for title, counts in (("subjects with a warning by check", warned), ("undecided by check", undecided)):
        if counts:
            lines.append(f"{title}: " + ", ".join(f"{name} {n}" for name, n in counts.most_common()))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=None, help="so many subjects, drawn; all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="subjects whose name contains this")
    parser.add_argument("--checks", default="", help="names of checks with commas between; all by default")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    checks = tuple(options.checks.split(",")) if options.checks else None
    heard = []
    for one in chosen(options.count, options.seed, options.only):
        heard.append(listen(one, options.seed, checks))
        tell(heard[-1], verbose=options.verbose)
    print(summary(heard))
    return 1 if any(h.alarms for h in heard) else 0


def tell(heard: Heard, *, verbose: bool) -> None:
    """Prints what a user would have been told."""
    for text in heard.alarms:
        print(f"FALSE ALARM {heard.name}: {text}", flush=True)
    for text in heard.pinned:
        print(f"pinned      {heard.name}: {text}", flush=True)
    for text in heard.warnings:
        print(f"warning     {heard.name}: {text}", flush=True)
    if verbose:
        for text in heard.undecided:
            print(f"undecided   {heard.name}: {text}", flush=True)
        print(f"{heard.seconds:6.2f} s    {heard.name}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
