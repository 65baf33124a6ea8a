"""Runs a page of the documentation from top to bottom, as its reader would.

What a fenced block is follows from its language and its first line:

- ``# name.ext`` in the first line: a file, written into the page's folder.
- ``python``: run, in one namespace for the whole page, with the page's folder as the current one.
- ``text`` after ``python``: what that block has printed.
- ``console``: commands (``$ …``) with what they print; ``$ echo $?`` shows an exit status, a line of ``...`` stands for
  any lines. A command whose output nobody needs to see stands in ``sh``.
- ``python needs=cuda``: run where there is a CUDA device; elsewhere it has to be valid Python.

Numbers, temporary folders and line breaks are left out of comparisons: they differ between machines.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from markdown_it import MarkdownIt

_FILE = re.compile(r"#\s+([\w./-]+\.(?:py|toml|yml|txt))\s*\n")
_NUMBER = re.compile(r"[-+]?\d[\d.]*(e[-+]?\d+)?")
_ID = re.compile(r"\b[0-9a-f]{10}\b")
_RULER = re.compile(r"[=_-]{3,}|[━─]{3,}")
_ANY = "..."


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    language: str
    options: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """Name of the file that it is; None if it is none."""
        found = _FILE.match(self.text)
        return found.group(1) if found else None


def blocks(page: Path) -> tuple[Block, ...]:
    """All fenced blocks of a page, in order."""
    found = []
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "fence":
            language, _, options = token.info.strip().partition(" ")
            found.append(Block(language, options, token.content, token.map[0] + 1))
    return tuple(found)


def essence(text: str) -> str:
    """The text without what differs between machines."""
    text = _RULER.sub("", _ID.sub("#", text))
    return " ".join(_NUMBER.sub("#", text).split())


@dataclass(slots=True)
class Reader:
    """Somebody who follows a page in a folder of their own."""

    folder: Path
    printed: str = ""
    status: int = 0
    namespace: dict[str, object] = field(default_factory=lambda: {"__name__": "page"})

    def follow(self, block: Block) -> None:
        """Do what a block says; an ``AssertionError`` if what it shows is not what comes."""
        if block.file is not None:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            self._run(block)
        elif block.language == "text" and self.printed:
            assert essence(self.printed) == essence(block.text), f"line {block.line}"
        elif block.language in ("console", "sh"):
            for command, shown in transcript(block):
                self._order(command, shown if block.language == "console" else None, block.line)

    def _run(self, block: Block) -> None:
        if "needs=cuda" in block.options and not _has_cuda():
            ast.parse(block.text)
            return
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.chdir(self.folder):
            exec(compile(block.text, f"line {block.line}", "exec"), self.namespace)
        self.printed = out.getvalue()

    def _order(self, command: str, shown: str | None, line: int) -> None:
        if command == "echo $?":
            assert shown is not None
            assert self.status == int(shown), f"line {line}: exit status {self.status}, shown is {shown}"
            return
        tools = Path(sys.executable).parent
        environment = {k: v for k, v in os.environ.items() if k not in ("CI", "GITHUB_ACTIONS") and "COV" not in k}
        environment |= {"PATH": f"{tools}{os.pathsep}{environment['PATH']}", "COLUMNS": "80", "NO_COLOR": "1"}
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        self.status = done.returncode
        if shown is None:
            assert self.status == 0, f"line {line}: $ {command}\n{done.stdout}{done.stderr}"
            return
        came = done.stdout + done.stderr
        assert matches(came, shown), f"line {line}: $ {command}\n{came}\n-- but the page shows\n{shown}"


def transcript(block: Block) -> Iterator[tuple[str, str]]:
    """Commands, each with the output that follows it. In ``sh`` every line is a command."""
    if block.language == "sh":
        yield from ((line, "") for line in block.text.splitlines() if line.strip() and not line.startswith("#"))
        return
    command, shown = "", list[str]()
    for line in block.text.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, "\n".join(shown)
            command, shown = line[2:], []
        else:
            shown.append(line)
    if command:
        yield command, "\n".join(shown)


def matches(came: str, shown: str) -> bool:
    """Whether output is as shown, where a line of ``...`` stands for any lines."""
    pieces = [essence(piece) for piece in re.split(rf"(?m)^\s*{re.escape(_ANY)}\s*$", shown)]
    pattern = r".*".join(re.escape(piece) for piece in pieces)
    return re.fullmatch(rf"\s*{pattern}\s*", essence(came), flags=re.DOTALL) is not None


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
