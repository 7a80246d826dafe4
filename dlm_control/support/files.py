"""Files that exist whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from dlm_control.support.errors import UsageError


def write_whole(texts: Mapping[Path, str | bytes]) -> None:
    """Write files so that each exists whole or not at all: under temporary names first, renamed when all are on the disk.

    Raises:
        UsageError: one cannot be written; none is then.
    """
    try:
        for file, text in texts.items():
            with open(temporary_of(file), "wb") as temporary:
                temporary.write(text.encode() if isinstance(text, str) else text)
                temporary.flush()
                os.fsync(temporary.fileno())
        for file in texts:
            os.replace(temporary_of(file), file)
    except OSError as error:
        raise UsageError(f"{file}: cannot be written: {error.strerror}; nothing was kept") from None
    finally:
        for each in texts:
            with contextlib.suppress(OSError):  # a place that cannot be written to holds none
                temporary_of(each).unlink(missing_ok=True)


def temporary_of(file: Path) -> Path:
    """Where a file is written before it is moved to its place."""
    return file.with_name(f".{file.name}.{os.getpid()}.new")
