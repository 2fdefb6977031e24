"""What our own modules use must not be deprecated; others' warnings do not fail a test."""

import warnings

import pytest


@pytest.mark.parametrize("module", ["contract", "components.train.loop", "tests.stub_api"])
def test_a_deprecated_call_of_ours_is_an_error(module: str) -> None:
    with pytest.raises(DeprecationWarning, match="use the new one"):
        warnings.warn_explicit("use the new one", DeprecationWarning, "x.py", 1, module)


@pytest.mark.parametrize("module", ["tensorflow", "contractions", "clipboard"])
def test_a_deprecated_call_of_others_is_none(module: str) -> None:
    warnings.warn_explicit("use the new one", DeprecationWarning, "x.py", 1, module)
