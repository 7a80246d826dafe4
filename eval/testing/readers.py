"""Does a target reader keep what the harness relies on?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dlm_control.control.use import with_unique_names
from dlm_control.support.errors import ErrorCollector, UsageError, short_repr
from dlm_control.support.validation import check_arguments
from dlm_control.tasks.targets.reader import READERS, TargetReader
from dlm_control.tasks.targets.target import WORDS, Target, digest_of
from dlm_control.testing.report import hold, leads_to

_MOST = 50  # targets that are looked at


@dataclass(frozen=True)
class _OfReader:
    reader: TargetReader
    data: Path
    arguments: Mapping[str, Any]
    faulty: Sequence[Mapping[str, Any]]

    def targets(self) -> list[Target]:
        return list(islice(self.reader(self.data, WORDS, **self.arguments), _MOST))


def check_reader(reader: TargetReader, data: Path, *, faulty: Sequence[Mapping[str, Any]] = (), **arguments: Any) -> None:
    """Hold a target reader to every rule of a reader; its first fifty targets are looked at.

    Args:
        reader: a function under `@register_reader`.
        data: folder of its files.
        faulty: arguments with a mistake, as a suite may give them, each of which must be told.
        **arguments: as a suite gives them.

    Raises:
        ConformanceError: rules are broken; all in one report.
    """
    hold(f"reader {reader.name}", READER_RULES, _OfReader(reader, data, arguments, faulty))


def _reads(case: _OfReader) -> Iterator[str]:
    """There are targets, and names tell them apart."""
    targets = case.targets()
    if not targets:
        yield "yields no target"
    strange = next((each for each in targets if not isinstance(each, Target)), None)
    if strange is not None:
        yield f"yields {short_repr(strange)}, expected a Target"
    elif len({target.name for target in targets}) < len(targets):
        yield "two targets have one name"


def _reads_again(case: _OfReader) -> Iterator[str]:
    """The same arguments give the same targets."""
    if digest_of(case.targets()) != digest_of(case.targets()):
        yield "gives other targets the second time; draw from random.Random(seed), with a seed among its arguments"


def _references_obey(case: _OfReader) -> Iterator[str]:
    """Human texts of targets pass the checks of their controls."""
    for target in case.targets():
        for control in with_unique_names(target.controls) if target.reference else ():
            check = control.check(str(target.reference))
            if check.judged and not check.passed:
                yield f"target {target.name!r}: its reference does not obey {control.name}: {check.why}"


def _tells_mistakes(case: _OfReader) -> Iterator[str]:
    """A missing file and faulty arguments are UsageErrors."""
    if case.reader.needs_files:
        with TemporaryDirectory() as empty:
            try:
                list(case.reader(Path(empty), WORDS, **case.arguments))
            except UsageError:
                pass
            except Exception as error:
                yield f"a missing file raised {type(error).__name__}, expected a UsageError that names the file"
            else:
                yield "reads no file; say needs_files=False"
    for given in case.faulty:
        problems = ErrorCollector("")
        check_arguments(problems, "", case.reader.function, given, 2)
        try:
            if not problems.found:
                list(case.reader(case.data, WORDS, **given))
        except UsageError:
            continue
        except Exception as error:
            yield f"{short_repr(dict(given))} raised {type(error).__name__}, expected a UsageError"
        else:
            if not problems.found:
                yield f"{short_repr(dict(given))} raised nothing, expected a UsageError"


def _reader_is_found(case: _OfReader) -> Iterator[str]:
    """Its name leads to it."""
    yield from leads_to(READERS, case.reader)


READER_RULES = {
    "is found": _reader_is_found, "reads": _reads, "reads again": _reads_again, "references obey": _references_obey,
    "tells mistakes": _tells_mistakes,
}  # fmt: skip
