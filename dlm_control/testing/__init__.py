"""The conformance kit: does something of one's own keep the contract that the engine relies on?"""

from dlm_control.testing.conformance import check_controller as check_controller
from dlm_control.testing.devices import MixedDevicesError as MixedDevicesError
from dlm_control.testing.devices import OneDevice as OneDevice
from dlm_control.testing.diffusion import check_sampler as check_sampler
from dlm_control.testing.diffusion import check_schedule as check_schedule
from dlm_control.testing.report import ConformanceError as ConformanceError
from dlm_control.testing.rules import RULES as RULES
