"""How passes are written in a pipeline's config."""

from typing import Any

import pytest

from contract.errors import ConfigError
from contract.loader import validate
from contract.schema.optimize import OptimizeConfig
from contract.schema.passes import DEFAULT_PASSES, RoundWeights


def read(*passes: Any) -> OptimizeConfig:
    return validate(OptimizeConfig, {"passes": list(passes)}, "digits/pipeline.yaml")


def test_a_pass_is_a_name_or_a_name_with_arguments() -> None:
    first, second = read("fuse", {"round_weights": {"num_steps": 64}}).passes
    assert first.name == "fuse"
    assert second == RoundWeights(name="round_weights", num_steps=64)


def test_the_default_passes_stand_for_themselves_and_survive_json() -> None:
    config = OptimizeConfig()
    assert tuple(one.name for one in config.passes) == DEFAULT_PASSES
    assert OptimizeConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("passes", "message"),
    [
        (["fold_konstants"], "passes.0: unknown pass; did you mean 'fold_constants'"),
        ([{"round_weights": {"num_step": 4}}], "num_step: unknown key; did you mean 'num_steps'"),
        ([{"round_weights": {"num_steps": 1}}], "greater than or equal to 2"),
        (["quantize_weights", "fuse"], "'fuse' stands after 'quantize_weights'"),
    ],
)
def test_a_wrong_list_of_passes_is_refused(passes: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(*passes)
