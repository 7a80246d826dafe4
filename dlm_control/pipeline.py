"""What users load and generate with: a frozen language model, and texts from it under controls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from dlm_control.control.controller import Controller
from dlm_control.control.use import Control
from dlm_control.sampling.generate import Request, generate
from dlm_control.sampling.presets import Preset, preset
from dlm_control.sampling.sample import Sample
from dlm_control.sampling.trace import Trace
from dlm_control.support.errors import UsageError
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

    @checked_call_of("generate", own=1)
    def generate(
        self,
        controls: Sequence[Controller | Control] = (),
        num_samples: Annotated[int, Above(0)] = 1,
        seed: Seed = 0,
        preset: Preset | str = "default",
        indices: Sequence[Annotated[int, AtLeast(0)]] | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        trace: Trace | None = None,
        **changes: Any,
    ) -> list[Sample]:
        """Texts that obey all controls.

        Args:
            controls: controllers, or Controls, which add a weight, an interval, a schedule or a name.
            num_samples: how many texts.
            seed: text i is a function of (controls, preset, seed, i) alone.
            preset: a name, whose values are those for this kind of model, or a Preset.
            indices: the index i of each text, by default 0 … num_samples − 1.
            on_error: with `skip`, an item for which a control fails has no text, and its `error` says why.
            trace: records what every control does at every step.
            **changes: values of the preset to replace, such as steps=20.

        Raises:
            UsageError: controls contradict each other or need unknown words, or the preset has faulty values.
        """
        expected = tuple(range(num_samples)) if indices is None else tuple(indices)
        return self._generate([Request(controls, expected, seed)], self._preset(preset, changes), on_error, trace)[0]

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
        return self._generate(requests, self._preset(preset, changes), on_error, None)

    def _preset(self, given: Preset | str, changes: dict[str, Any]) -> Preset:
        if isinstance(given, str):
            return preset(given, self.backbone.kind, **changes)
        return preset("default", **{**vars(given), **changes})

    def _generate(self, requests: Sequence[Request], chosen: Preset, on_error: str, trace: Trace | None) -> list[list[Sample]]:
        if trace is not None and chosen.guidance != "tilt":
            raise UsageError(f"trace: the guidance {chosen.guidance!r} leaves no trace; use guidance: tilt")
        total = sum(len(request.indices) for request in requests) * chosen.candidates * chosen.particles * chosen.steps
        with progress("generate", total=total) as bar:
            return generate(self.backbone, requests, chosen, bar.advance, on_error == "skip", trace)

    def __repr__(self) -> str:
        return f"LanguageModel({self.backbone!r})"


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
