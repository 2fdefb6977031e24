"""What single steps do besides running as pods; see `operators/steps.py`."""

from typing import Any

from airflow.sdk import Asset, SkipMixin

from operators.pod_component import ComponentPodOperator
from operators.steps import Bless, Canary, Promote


class BlessPodOperator(Bless, ComponentPodOperator, SkipMixin):
    """`bless` as a pod."""


class CanaryPodOperator(Canary, ComponentPodOperator, SkipMixin):
    """`canary` as a pod."""


class PromotePodOperator(Promote, ComponentPodOperator):
    """`promote` as a pod."""

    def __init__(self, *, model: Asset, **kwargs: Any) -> None:
        super().__init__(outlets=self.emits(model), **kwargs)
