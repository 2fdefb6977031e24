"""The pages of questions, conflicts and live predictions inside Airflow's UI, as a plugin.

Airflow does not authenticate applications that a plugin brings, so this one brings none: it shows
`slipway labels serve` in a frame, which asks everybody for their own token. An Airflow has it when
a file of its plugins folder says `from operators.pages import SlipwayPages`.
"""

import os
from typing import Any
from urllib.parse import urlsplit

from airflow.plugins_manager import AirflowPlugin

LABELS_URL = "SLIPWAY_LABELS_URL"


def views(url: str) -> list[dict[str, Any]]:
    """Return the entry of Airflow's menu; none where no page is named.

    Raises:
        ValueError: If the address is no web address; Airflow shows it as an import error.
    """
    if not url:
        return []
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(
            f"{LABELS_URL}: expected the address of 'slipway labels serve', such as "
            f"http://127.0.0.1:8800, found '{url}'"
        )
    return [
        {
            "name": "Labels and predictions",
            "href": url,
            "destination": "nav",
            "category": "browse",
            "url_route": "slipway-labels",
        }
    ]


class SlipwayPages(AirflowPlugin):
    """One entry of the menu."""

    name = "slipway_pages"
    external_views = views(os.environ.get(LABELS_URL, ""))
