"""The conformance kit of the harness: does a metric, reader, judge or generator of one's own keep the contract?"""

from dlm_control.eval.testing.generators import check_generator as check_generator
from dlm_control.eval.testing.judges import check_judge as check_judge
from dlm_control.eval.testing.metrics import check_metric as check_metric
from dlm_control.eval.testing.readers import check_reader as check_reader
