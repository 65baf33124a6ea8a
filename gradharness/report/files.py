"""Writing a file so that whoever looks sees the old one or the whole new one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(target: Path, content: bytes) -> None:
    """Replaces a file, or makes it; never leaves a part of one. Raises ``OSError``.

    A link stays, and what it leads to is replaced. What is no file, such as ``/dev/stdout``, is written to as it is.
    """
    if target.exists() and not target.is_file():  # a rename would put a file in a device's place
        with target.open("wb") as sink:
            sink.write(content)
        return
    target = target.resolve()
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(name, 0o644)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise
