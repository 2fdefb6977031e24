"""Runs in Airflow from Python: started, followed, cancelled."""

from pathlib import Path

import pytest
from airflow_stack import AirflowStack

import slipway
from contract.errors import UserError
from contract.loader import load_frozen

pytestmark = pytest.mark.long  # with the others that share this Airflow, which then is stopped


@pytest.fixture
def pipeline(airflow_stack: AirflowStack, monkeypatch: pytest.MonkeyPatch) -> slipway.Pipeline:
    if not Path(airflow_stack.pipelines / "from_python").exists():
        airflow_stack.add("from_python")
    airflow_stack.slipway("status", "from_python", "--json")  # leaves what `up` leaves
    for variable in ("SLIPWAY_HOME", "SLIPWAY_PIPELINES"):
        monkeypatch.setenv(variable, airflow_stack.environment[variable])
    return slipway.connect().pipeline("from_python")


def test_a_run_in_airflow_is_followed_to_its_result(
    airflow_stack: AirflowStack, pipeline: slipway.Pipeline
) -> None:
    run = pipeline.run(set={"train.steps": 40})
    assert not run.is_local
    assert run.follow().outcome == "not blessed"
    assert load_frozen(airflow_stack.layout("from_python", run.run_id)).train.steps == 40
    assert run.metrics.loc[("digit", "accuracy"), "value"] < 1.0
    assert "digit" in str(run.report())
    assert [one.run_id for one in pipeline.runs()] == [run.run_id]
    with pytest.raises(UserError, match="not blessed: nothing to deploy: accuracy"):
        run.deploy()
    with pytest.raises(UserError, match=r"has ended already \(success\)"):
        run.cancel()


def test_a_run_in_airflow_is_cancelled(pipeline: slipway.Pipeline) -> None:
    run = pipeline.run()
    assert run.cancel().outcome == "ended by a person"
    assert run.wait().outcome == "ended by a person"  # by its records: nothing to wait for
