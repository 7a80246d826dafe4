"""Samplers and noise schedules of one's own: registered, used by name, held to rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dlm_control import UsageError
from dlm_control.diffusion.samplers import DDIM, SAMPLERS, Moments, register_sampler, sampler
from dlm_control.diffusion.schedule import SCHEDULES, CosineSchedule, NoiseSchedule, noise_schedule, register_schedule
from dlm_control.sampling.presets import preset
from dlm_control.tasks.spec import Spec
from dlm_control.testing import ConformanceError, check_sampler, check_schedule


def test_built_in_ones_keep_the_rules() -> None:
    for make in SAMPLERS.values():
        check_sampler(make())
    for schedule in SCHEDULES.values():
        check_schedule(schedule())


def test_a_registered_one_is_found_by_name() -> None:
    @register_sampler("mine")
    class Mine(DDIM):
        """The same."""

    @register_schedule("mine")
    class Other(CosineSchedule):
        """The same."""

    assert isinstance(sampler("mine"), Mine) and isinstance(noise_schedule("mine"), Other)
    assert preset("default", sampler="mine").sampler == "mine"
    with pytest.raises(UsageError, match="schedule 'sqrt': already registered by dlm-control"):
        register_schedule("sqrt")(Other)
    with pytest.raises(UsageError, match="schedule 'x': expected a subclass of NoiseSchedule"):
        register_schedule("x")(Mine)  # type: ignore[type-var]


def test_a_spec_takes_the_sampler_of_a_file_that_it_includes(tmp_path: Path) -> None:
    head = "from dlm_control.diffusion.samplers import DDIM, register_sampler"
    code = f"{head}\n@register_sampler('filed')\nclass Filed(DDIM): pass\n"
    (tmp_path / "filed.py").write_text(code)
    given = {"preset": {"sampler": "filed"}, "include": [str(tmp_path / "filed.py")], "controls": [{"length": 9}]}
    assert Spec.from_mapping(given).preset.of("gaussian").sampler == "filed"


def test_what_a_sampler_breaks_comes_in_one_report() -> None:
    class Odd(DDIM):
        """Stops short, says that it draws, and remembers for all items together."""

        def moments(self, schedule: NoiseSchedule, x_t: Tensor, t: float, s: float, x0: Tensor, memory: Any) -> Moments:
            step = super().moments(schedule, x_t, t, s, x0, memory)
            return Moments(step.mean + 0.5, 0.0, {"last": torch.zeros(1)})

    odd = Odd()
    odd.stochastic = True
    with pytest.raises(ConformanceError, match=r"^sampler Odd breaks 3 of 3 rules") as error:
        check_sampler(odd)
    lands, draws, remembers = (issue.message for issue in error.value.issues)
    assert lands.startswith("ends 0.5") and lands.endswith("from the answer that every step was given")
    assert draws == "stochastic is True, and its steps draw none" and remembers.startswith("memory 'last' has 1 rows")


def test_what_a_schedule_breaks_comes_in_one_report() -> None:
    class Odd(NoiseSchedule):
        """Rises."""

        def alpha_bar(self, t: Tensor) -> Tensor:
            return t / t.max()

    with pytest.raises(ConformanceError, match=r"^schedule Odd breaks 2 of 2 rules") as error:
        check_schedule(Odd())
    first, second, third = (issue.message for issue in error.value.issues)
    assert first == "alpha_bar goes from 0 to 1, expected from about 1 to about 0" and second == "alpha_bar rises at t = 0"
    assert third == "alpha_bar of one level differs from that of the level among others"
