"""Cron expressions of the config."""

import re


def check_cron(cron: str | None) -> str | None:
    """Return a cron expression as it is; ValueError if it is none with five fields."""
    if cron is not None and not re.fullmatch(r"\S+( \S+){4}", cron):
        raise ValueError(f"expected five fields 'minute hour day month weekday', found {cron!r}")
    if cron is not None:
        from croniter import CroniterError, croniter  # only here: few processes need it

        try:
            croniter(cron)
        except CroniterError as error:
            raise ValueError(str(error)) from error
    return cron
