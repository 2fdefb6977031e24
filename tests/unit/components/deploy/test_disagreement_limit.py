import dataclasses

import pytest

from components.deploy.disagreement import disagreement_limit
from contract.records.evaluation import Metric
from contract.schema.data import HeadConfig


def accuracy(low: float) -> dict[str, dict[str, Metric]]:
    return {"label": {"accuracy": Metric(value=low + 0.02, low=low, high=1.0)}}


def judged_by_bless(deployment, ours: float, theirs: float):
    measured = {"metrics": accuracy(ours), "champion_metrics": accuracy(theirs)}
    return dataclasses.replace(deployment, bless=deployment.bless.model_copy(update=measured))


def test_two_models_differ_at_most_where_one_of_them_is_wrong(make_deployment):
    deployment = judged_by_bless(make_deployment(), 0.97, 0.95)
    assert disagreement_limit(deployment, 1) == pytest.approx(0.08)


@pytest.mark.parametrize(("ours", "theirs", "limit"), [(1.0, 1.0, 0.01), (0.3, 0.4, 0.95)])
def test_the_limit_leaves_room_for_evidence(make_deployment, ours, theirs, limit):
    assert disagreement_limit(judged_by_bless(make_deployment(), ours, theirs), 1) == limit


def test_a_stated_limit_holds(make_deployment):
    deployment = judged_by_bless(make_deployment(max_disagreement_ratio=0.3), 0.97, 0.95)
    assert disagreement_limit(deployment, 1) == 0.3


def test_without_accuracies_only_most_rows_are_too_many(make_deployment):
    deployment = make_deployment()
    assert disagreement_limit(deployment, 1) == 0.5
    assert disagreement_limit(dataclasses.replace(deployment, bless=None), 1) == 0.5


def test_answers_that_are_not_logged_are_not_compared(make_deployment):
    deployment = make_deployment()
    serve = deployment.config.serve.model_copy(update={"prediction_log_ratio": 0.0})
    config = deployment.config.model_copy(update={"serve": serve})
    assert disagreement_limit(dataclasses.replace(deployment, config=config), 1) is None


def test_numbers_are_compared_if_the_champions_own_error_is_known(make_deployment):
    deployment = make_deployment()
    heads = {"price": HeadConfig(task="regression")}
    config = deployment.config.model_copy(update={"heads": heads})
    priced = dataclasses.replace(deployment, config=config)
    assert disagreement_limit(priced, 1) is None
    champion = deployment.manifest.model_copy(update={"heads": heads, "metrics": {"rmse": 2.0}})
    folder = deployment.layout.version(1)
    folder.mkdir(parents=True)
    champion.write(folder / "package.json")
    assert disagreement_limit(priced, 1) == 0.5
