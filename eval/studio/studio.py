"""What the page's parts share: the folder, the models, and who may run what."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dlm_control.eval.studio.export import as_command, as_python, as_yaml
from dlm_control.eval.studio.folder import MAX_SPEC, Folder
from dlm_control.eval.studio.guard import Stops, locked_cache
from dlm_control.eval.studio.verdict import Verdict, judge
from dlm_control.eval.studio.writing import Outcome
from dlm_control.pipeline import LanguageModel
from dlm_control.sampling.presets import Preset, preset
from dlm_control.support.errors import UsageError
from dlm_control.support.files import write_whole
from dlm_control.tasks.guided import loaded
from dlm_control.tasks.run import files_of
from dlm_control.tasks.spec import Spec

START = {
    "num_samples": 4, "seed": 1,
    "controls": [{"semantic": {"field": "food", "value": "Japanese"}}, {"length": 18}, {"keyword": "riverside"}],
}  # fmt: skip
_drawing = threading.Lock()  # pyplot has one state for all threads


class Studio:
    """One studio, for all its visitors.

    Args:
        folder: that it works in; relative names of models are looked up from the process's own folder, which must be the same.
        includes: Python files that were run at the start.
        guides, device, dtype: of the models.

    Raises:
        UsageError: there is no such folder.
    """

    def __init__(
        self,
        folder: Path,
        includes: Sequence[str] = (),
        guides: Sequence[str] | None = None,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        self.folder, self.includes, self.stops = Folder(folder), tuple(includes), Stops()
        self.model_of: Callable[[str], LanguageModel] = locked_cache(lambda name: loaded(name, guides, device, dtype))

    def judge(self, text: str) -> Verdict:
        """What is known of a spec."""
        return judge(text, self.folder, self.model_of)

    def spec_of(self, text: str) -> Spec:
        """A spec without faults.

        Raises:
            UsageError: it has some.
        """
        verdict = self.judge(text)
        if verdict.spec is None:
            raise UsageError("The spec has problems; mend them first.", verdict.faults)
        return verdict.spec

    def copies(self, verdict: Verdict) -> tuple[str, str]:
        """A spec as Python and as a command; where it has faults, what to do."""
        if verdict.spec is None:
            return ("# Mend the spec first: its problems stand above.",) * 2
        return as_python(verdict.spec, verdict.content), as_command(verdict.text, self.includes)

    def usual_preset(self, verdict: Verdict) -> Preset:
        """The values of the preset that a spec names, without the spec's changes; the default's where it has faults."""
        given = verdict.content.get("preset", "default")
        name = given.get("name", "default") if isinstance(given, dict) else given
        try:
            kind = self.model_of(str(verdict.content.get("model", "e2e"))).backbone.kind if not verdict.faults else "gaussian"
            return preset(name if isinstance(name, str) else "default", kind)
        except UsageError:
            return Preset()

    def opened(self, name: str) -> str:
        """The text of a spec file in the folder.

        Raises:
            UsageError: it is outside, missing or too large.
        """
        return self.folder.read(name, MAX_SPEC)

    def save_spec(self, name: str, text: str) -> str:
        """Write a spec file that is not there yet; returns what to say."""
        file = self.folder.new_file(name, ".yaml")
        if len(text) > MAX_SPEC:
            raise UsageError(f"{name}: {len(text):,} letters; a spec has at most {MAX_SPEC:,} here")
        write_whole({file: text})
        return f"Saved as {file.relative_to(self.folder.root)}."

    def save_texts(self, name: str, spec: Spec, outcome: Outcome) -> str:
        """Write the texts of a run and their manifest, as `dlm generate --out` does; returns what to say."""
        file = self.folder.new_file(name, ".jsonl")
        write_whole(files_of(file, spec, self.model_of(spec.model), outcome.samples, outcome.seconds))
        return f"Saved as {os.path.relpath(file, self.folder.root)}."

    def start(self) -> tuple[dict[str, Any], str]:
        """The spec that a visitor finds, as keys and values and as YAML."""
        return START, as_yaml(START)


def drawn(paint: Callable[[Any], None]) -> str:
    """A picture as SVG; see `dlm_control.eval.report.plots.svg`."""
    from dlm_control.eval.report.plots import svg

    with _drawing:
        return svg(paint)
