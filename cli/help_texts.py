"""How `--help` shows options: a flag takes no value, so no type is shown beside it."""

from typing import Any

from typer.core import TyperCommand, TyperGroup


class PlainCommand(TyperCommand):
    """A command whose help shows no type for flags."""

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters; flags without a value to show."""
        return without_flag_types(super().get_params(ctx))


class PlainGroup(TyperGroup):
    """A command group whose help shows no type for flags."""

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters; flags without a value to show."""
        return without_flag_types(super().get_params(ctx))


def without_flag_types(parameters: list[Any]) -> list[Any]:
    """Return the parameters of a command; Typer writes `<bool>` beside flags without this."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    return parameters
