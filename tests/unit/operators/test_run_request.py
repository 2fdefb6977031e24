from typing import Any

import pytest

from contract.errors import ConfigError
from contract.loader import load_pipeline
from contract.pipelines import find_pipeline
from contract.run_rights import check_overrides
from contract.schema.pipeline import PipelineConfig
from contract.schema.training import TrainConfig
from operators.run_request import RunRequest, form


def test_a_run_without_conf_asks_for_nothing() -> None:
    assert RunRequest.of(None) == RunRequest.of({}) == RunRequest()


def test_what_the_untouched_form_sends_asks_for_nothing() -> None:
    assert RunRequest.of({name: param.value for name, param in form().items()}) == RunRequest()


def test_the_fields_of_the_form_are_overrides_and_named_overrides_win() -> None:
    conf = {"training_steps": 5, "learning_rate": 0.1, "overrides": {"train.steps": 9, "a.b": 1}}
    assert RunRequest.of(conf).overrides == {
        **{"train.steps": 9, "a.b": 1},
        "train.learning_rate": 0.1,
    }


def test_a_field_set_to_zero_is_not_taken_for_an_empty_one() -> None:
    assert RunRequest.of({"training_steps": 0}).overrides == {"train.steps": 0}


def test_a_version_to_deploy_again_and_force_are_read() -> None:
    request = RunRequest.of({"redeploy_version": 3, "force": True})
    assert (request.redeploy_version, request.is_forced) == (3, True)


def test_an_unknown_key_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="conf: overides: unknown key; did you mean 'overrides'"):
        RunRequest.of({"overides": {}})


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as refusal:
        RunRequest.of({"stepz": 1, "overrides": ["train.steps=3"], "redeploy_version": True})
    assert len(refusal.value.problems) == 3


def test_the_form_has_at_most_five_fields_and_the_overrides() -> None:
    fields = form()
    assert "overrides" in fields
    assert len(fields) - 1 <= 5


def test_the_limits_of_a_field_are_the_schemas() -> None:
    steps = form()["training_steps"]
    assert steps.schema["type"] == ["null", "integer"]
    assert steps.schema["minimum"] == 1  # as `Count` of the schema says
    assert TrainConfig.model_fields["steps"].metadata[0].ge == 1


def test_two_dags_do_not_share_the_forms_state() -> None:
    form()["training_steps"].resolve(7)
    assert form()["training_steps"].value is None


def a_config() -> PipelineConfig:
    return PipelineConfig.model_validate(
        {
            "name": "digits",
            "features": {"x": {"dtype": "float32"}},
            "heads": {"label": {"task": "regression"}},
            "ingest": {"source": {"kind": "csv", "files": ("x.csv",)}},
            "train": {"steps": 2000, "hyperparameters": {"units": 16}},
        }
    )


def test_a_pipelines_form_says_what_is_configured_and_which_keys_there_are() -> None:
    fields = form(a_config())
    assert str(fields["training_steps"].description).endswith("Empty: 2,000, as configured.")
    keys = fields["overrides"].schema["description_md"].splitlines()
    assert "- **train.hyperparameters.**: units" in keys
    (train,) = [line for line in keys if line.startswith("- **train.**: ")]
    assert {"batch_size", "steps"} <= set(train.partition(": ")[2].split(", "))
    assert not [line for line in keys if line.startswith(("- **features", "- **heads"))]


def test_the_form_names_only_keys_that_a_run_may_override() -> None:
    allowed = ("train", "evaluate", "serve.fault_ratio")
    lines = form(a_config(), allowed)["overrides"].schema["description_md"].splitlines()
    keys = {section: names for section, _, names in (line.partition(": ") for line in lines)}
    named = [section for section in keys if section.startswith("- **")]
    sections = {section.removeprefix("- **").partition(".")[0] for section in named}
    assert sections == {"train", "evaluate", "serve"}
    assert keys["- **serve.**"] == "fault_ratio"
    assert "queue_uri" not in keys["- **evaluate.**"]


def test_no_field_of_the_form_is_required() -> None:
    """Airflow marks a field as required if its type has no null."""
    for fields in (form(), form(a_config())):
        assert [name for name, field in fields.items() if "null" not in field.schema["type"]] == []


def test_every_key_that_the_form_names_is_taken_as_an_override() -> None:
    """All at once, each with the value that it has."""
    allowed = tuple(PipelineConfig.model_json_schema()["properties"])
    folder = find_pipeline("digits")
    config = load_pipeline(folder)
    overrides: dict[str, Any] = {}
    for line in form(config, allowed)["overrides"].schema["description_md"].splitlines():
        if line.startswith("- **"):
            section, names = line.removeprefix("- **").split(".**: ")
            values: Any = config.model_dump(mode="json", by_alias=True)
            for part in section.split("."):
                values = values[part]
            overrides |= {f"{section}.{name}": values[name] for name in names.split(", ")}
    assert len(overrides) > 80
    check_overrides(overrides, allowed)
    assert load_pipeline(folder, overrides) == config
