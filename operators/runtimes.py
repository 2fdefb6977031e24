"""Which operator runs which step, by the runtime's kind."""

from collections.abc import Callable
from functools import partial
from typing import Any

from contract.schema.runtime import RuntimeConfig
from contract.steps import STEPS
from launching.environment import starts_warm

OperatorFactory = Callable[..., Any]


def step_operators(runtime: RuntimeConfig) -> dict[str, OperatorFactory]:
    """Return what makes the operator of each step, from `pipeline` and what Airflow wants."""
    if runtime.kubernetes is None:
        given = {"job": runtime.job, "is_warm": starts_warm(runtime)}
        return {step: partial(made, **given) for step, made in _local().items()}
    operators = _pods()
    return {step: partial(made, kubernetes=runtime.kubernetes) for step, made in operators.items()}


def _local() -> dict[str, OperatorFactory]:
    from operators import component, steps

    own: dict[str, OperatorFactory] = {
        "evaluate": steps.EvaluateOperator,
        "bless": steps.BlessOperator,
        "canary": steps.CanaryOperator,
        "promote": steps.PromoteOperator,
    }
    return {step: own.get(step, component.ComponentOperator) for step in STEPS}


def _pods() -> dict[str, OperatorFactory]:
    # only here: the provider and the Kubernetes client take two seconds to import
    from operators import jobs, pod_component, pod_steps

    own: dict[str, OperatorFactory] = {
        "train": jobs.JobOperator,
        "evaluate": jobs.EvaluateJobOperator,
        "bless": pod_steps.BlessPodOperator,
        "canary": pod_steps.CanaryPodOperator,
        "promote": pod_steps.PromotePodOperator,
    }
    return {step: own.get(step, pod_component.ComponentPodOperator) for step in STEPS}
