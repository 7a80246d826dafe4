"""What users load and generate with: a frozen language model, and texts from it under controls."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from dlm_control.control.controller import Controller
from dlm_control.control.use import Control
from dlm_control.sampling.batch import BatchRow, RowRequest, requests_of, write_rows
from dlm_control.sampling.generate import Request, generate, populate, row_steps
from dlm_control.sampling.particles import Population
from dlm_control.sampling.presets import Preset, check_kind, preset, preset_for
from dlm_control.sampling.sample import Sample
from dlm_control.sampling.stream import Stream
from dlm_control.sampling.trace import Step
from dlm_control.support.errors import UsageError, short_repr
from dlm_control.support.progress import progress
from dlm_control.support.validation import checked_call_of
from dlm_control.support.values import Above, AtLeast, Seed

if TYPE_CHECKING:
    import torch

    from dlm_control.diffusion.backbone import Backbone


class LanguageModel:
    """A frozen diffusion language model, of whatever kind.

    Attributes:
        backbone: what guidance and controls know of it: its tokenizer, where it was loaded from, and the digest of its weights.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    def to(self, device: str | torch.device | None = None, dtype: str | torch.dtype | None = None) -> Self:
        """Move the network to a device, and its weights to a dtype (float32, bfloat16, float16); guides follow.

        Raises:
            UsageError: no such device or dtype.
        """
        from dlm_control.diffusion.loading import device_of, dtype_of

        self.backbone.to(None if device is None else device_of(device), None if dtype is None else dtype_of(dtype))
        return self

    @checked_call_of("save_pretrained", own=1)
    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model where `load` finds it: network, tokenizer, and card, guides, teacher, fields and preset beside it.

        Raises:
            UsageError: the folder is there already and not empty.
        """
        from dlm_control.diffusion.saving import save_backbone

        save_backbone(self.backbone, Path(folder))

    @checked_call_of("push_to_hub", own=1)
    def push_to_hub(self, repo_id: str, private: bool = False) -> str:
        """Save the model into a repository of the Hugging Face hub, such as `owner/model`; it is made if it is not there.

        Returns:
            The address of the commit.

        Raises:
            UsageError: the hub cannot be reached, or refuses.
        """
        from dlm_control.diffusion.saving import push_backbone

        return push_backbone(self.backbone, repo_id, private)

    @checked_call_of("generate", own=1)
    def generate(
        self,
        controls: Sequence[Controller | Control] = (),
        num_samples: Annotated[int, Above(0)] = 1,
        seed: Seed = 0,
        preset: Preset | str = "default",
        indices: Sequence[Annotated[int, AtLeast(0)]] | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        callback_on_step: Callable[[Step], bool | None] | None = None,
        **changes: Any,
    ) -> list[Sample]:
        """Texts that obey all controls.

        Args:
            controls: controllers, or Controls, which add a weight, an interval, a schedule or a name.
            num_samples: how many texts.
            seed: text i is a function of (controls, preset, seed, i) alone.
            preset: a name, whose values are those for this model or its kind, or a Preset.
            indices: the index i of each text, by default 0 … num_samples − 1.
            on_error: with `skip`, an item for which a control fails has no text, and its `error` says why.
            callback_on_step: called after each step with the texts as they stand, and what every control did; a `Trace` keeps
                it all. Returning True stops the run: a text that is not finished then has an `error` in place of words.
            **changes: values of the preset to replace, such as steps=20.

        Raises:
            UsageError: controls contradict each other or need unknown words, or the preset has faulty values.
        """
        request = _request(controls, num_samples, seed, indices)
        return self._generate([request], self._preset(preset, changes), on_error, callback_on_step)[0]

    @checked_call_of("stream", own=1)
    def stream(
        self,
        controls: Sequence[Controller | Control] = (),
        num_samples: Annotated[int, Above(0)] = 1,
        seed: Seed = 0,
        preset: Preset | str = "default",
        indices: Sequence[Annotated[int, AtLeast(0)]] | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        **changes: Any,
    ) -> Stream[list[Sample]]:
        """The steps of `generate`, one after the other: what its `callback_on_step` is called with. `samples` has the texts.

        Args:
            controls, num_samples, seed, preset, indices, on_error, **changes: as `generate`.

        Raises:
            UsageError: as `generate`, when the first step is asked for.
        """
        request = _request(controls, num_samples, seed, indices)
        run = generate(self.backbone, [request], self._preset(preset, changes), on_error == "skip", record=True)
        return Stream(_first(run))

    @checked_call_of("particles", own=1)
    def particles(
        self,
        controls: Sequence[Controller | Control] = (),
        size: Annotated[int, Above(1)] = 64,
        seed: Seed = 0,
        preset: Preset | str = "particles",
        index: Annotated[int, AtLeast(0)] = 0,
        **changes: Any,
    ) -> Population:
        """Texts with weights that together stand for p(text | controls), of one length and with the same fixed words.

        Args:
            controls: as `generate`; those without an energy count by their `log_potential`.
            size: how many particles.
            seed, index: as `generate`, which draws text `index` from the particles that are made here.
            preset, **changes: as `generate`.

        Raises:
            UsageError: as `generate`.
        """
        chosen = self._preset(preset, {**changes, "candidates": 1, "particles": size})
        stream = Stream(populate(self.backbone, _request(controls, 1, seed, [index]), chosen))
        with progress("particles", total=chosen.calls()) as bar:
            for step in stream:
                bar.advance(step.done)
        return stream.samples

    def generate_many(
        self,
        requests: Sequence[Request],
        preset: Preset | str = "default",
        on_error: Literal["raise", "skip"] = "raise",
        **changes: Any,
    ) -> list[list[Sample]]:
        """Texts for several sets of controls; they share network calls, and each text is the same that `generate` would write.

        Args:
            requests: controls, indices of texts and a seed each.
            preset, on_error, **changes: as `generate`.

        Raises:
            UsageError: as `generate`.
        """
        return self._generate(requests, self._preset(preset, changes), on_error)

    @checked_call_of("generate_batch", own=1)
    def generate_batch(
        self,
        rows: Iterable[Mapping[str, Any]],
        controls: Callable[[Mapping[str, Any]], Sequence[Controller | Control]],
        num_samples: Annotated[int, Above(0)] = 1,
        seed: Seed = 0,
        preset: Preset | str = "default",
        bad_rows: Literal["stop", "skip"] = "stop",
        **changes: Any,
    ) -> Iterator[BatchRow]:
        """Texts for the rows of a table, which share network calls; each row is given out when it and those before it are done.

        Args:
            rows: names and plain values.
            controls: those of a row; it raises UsageError where the row is at fault, as the controllers' constructors do.
            num_samples: texts of each row.
            seed: a text is a function of its row, the controls, the preset and the seed alone; see `RowSeeds`.
            preset: as `generate`.
            bad_rows: `stop` refuses all rows if some cannot be asked, in one report, and ends when a control fails; with `skip`
                these have no text, and their `error` says why.
            **changes: values of the preset to replace.

        Raises:
            UsageError: rows are faulty, or the preset is.
        """
        chosen = self._preset(preset, changes)
        check_kind(chosen, self.backbone.kind, self.backbone.settings)
        asked, problems = requests_of(self.backbone, rows, controls, num_samples, seed)
        if bad_rows == "stop":
            problems.raise_if_any()
        return self._batch(asked, chosen, bad_rows == "skip")

    def _batch(self, asked: Sequence[RowRequest], chosen: Preset, skip_errors: bool) -> Iterator[BatchRow]:
        with progress("generate", total=row_steps([row.request for row in asked if row.request], chosen)) as bar:
            for rows in write_rows(self.backbone, asked, chosen, skip_errors, bar.advance):
                yield from rows

    def _preset(self, given: Preset | str, changes: dict[str, Any]) -> Preset:
        if isinstance(given, str):
            return preset_for(given, self.backbone, **changes)
        return preset("default", **{**vars(given), **changes})

    def _generate(
        self,
        requests: Sequence[Request],
        chosen: Preset,
        on_error: str,
        callback: Callable[[Step], bool | None] | None = None,
    ) -> list[list[Sample]]:
        stream = Stream(generate(self.backbone, requests, chosen, on_error == "skip", record=callback is not None))
        with progress("generate", total=row_steps(requests, chosen)) as bar:
            for step in stream:
                bar.advance(step.done)
                answer = None if callback is None else callback(step)
                if answer is not None and not isinstance(answer, bool):
                    raise UsageError(
                        f"callback_on_step returned {short_repr(answer)}, expected True (stop), or False or None (go on)"
                    )
                if answer:
                    stream.stop()
        return stream.samples

    def __repr__(self) -> str:
        return f"LanguageModel({self.backbone!r})"


def _request(controls: Sequence[Controller | Control], num_samples: int, seed: int, indices: Sequence[int] | None) -> Request:
    return Request(controls, tuple(range(num_samples)) if indices is None else tuple(indices), seed)


def _first(run: Generator[Step, bool | None, list[list[Sample]]]) -> Generator[Step, bool | None, list[Sample]]:
    """A run of one request."""
    return (yield from run)[0]


@checked_call_of("load")
def load(source: str | Path = "e2e", device: Any = "cpu", dtype: Any = "float32") -> LanguageModel:
    """A language model.

    Args:
        source: a bundled name (`e2e`), a folder that `dlm train` or transformers wrote, or a hub id.
        device: that the network is moved to, such as `cuda`.
        dtype: of the network's weights: float32, bfloat16 or float16. Energies are float32 all the same.

    Raises:
        UsageError: there is no model, it is not a diffusion language model, or there is no such device or dtype.
    """
    from dlm_control.diffusion.loading import load_backbone

    return LanguageModel(load_backbone(source, device, dtype))
