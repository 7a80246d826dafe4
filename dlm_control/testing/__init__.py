"""The conformance kit: does something of one's own keep the contract that engine and harness rely on?"""

from dlm_control.testing.conformance import check_controller as check_controller
from dlm_control.testing.devices import MixedDevicesError as MixedDevicesError
from dlm_control.testing.devices import OneDevice as OneDevice
from dlm_control.testing.diffusion import check_sampler as check_sampler
from dlm_control.testing.diffusion import check_schedule as check_schedule
from dlm_control.testing.generators import check_generator as check_generator
from dlm_control.testing.judges import check_judge as check_judge
from dlm_control.testing.metrics import check_metric as check_metric
from dlm_control.testing.readers import check_reader as check_reader
from dlm_control.testing.report import ConformanceError as ConformanceError
from dlm_control.testing.rules import RULES as RULES
