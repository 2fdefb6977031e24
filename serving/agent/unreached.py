"""Requests that the data plane refuses because it knows no host of a version: told in words."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from serving.traffic.backend import Version

_TOLD_FOR = timedelta(seconds=10)  # after the last one that was seen


@dataclass
class _Seen:
    """The last count and when it was read; since when, and until when, refusals are told."""

    count: int
    at: datetime
    since: datetime
    until: datetime


class UnreachedTeller:
    """Knows since when the count of a version's unreached requests grows."""

    def __init__(self) -> None:
        self._seen: dict[Version, _Seen] = {}

    def words(self, version: Version, count: int, now: datetime) -> str:
        """Return what is to be told of a version's count; empty while it does not grow.

        The first count is where it begins: those refused before are not told.
        """
        seen = self._seen.setdefault(version, _Seen(count, at=now, since=now, until=now))
        if count > seen.count:
            if now >= seen.until:
                seen.since = seen.at
            seen.until = now + _TOLD_FOR
        seen.count, seen.at = count, now
        if now >= seen.until:
            return ""
        return (
            f"version {version[1]}: since {seen.since.astimezone():%H:%M:%S} requests were refused "
            "with 503, because the data plane knew no host of it"
        )
