"""The conformance kit: does a controller keep the contract that engine and harness rely on?"""

from dlm_control.testing.conformance import ConformanceError as ConformanceError
from dlm_control.testing.conformance import check_controller as check_controller
from dlm_control.testing.devices import MixedDevicesError as MixedDevicesError
from dlm_control.testing.devices import OneDevice as OneDevice
from dlm_control.testing.rules import RULES as RULES
