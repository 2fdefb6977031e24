"""The services of this machine."""

from pydantic import Field

from contract.records.record import Record


class Stack(Record):
    """`stack.json`: the services of this machine, written by `slipway up`. Secrets are in files."""

    airflow_url: str = ""
    airflow_user: str = ""
    airflow_password_file: str = ""
    tracking_uri: str = ""
    agent_url: str = ""
    agent_token_file: str = ""
    data_plane_url: str = ""
    data_plane_token_file: str = Field("", description="Callers must send its content; or empty.")
    data_plane_certificate_file: str = Field("", description="What callers trust, if it is TLS.")
    root: str
