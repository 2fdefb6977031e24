"""The services of this machine."""

from pydantic import Field

from contract.records.record import Record


class Stack(Record):
    """`stack.json`: the services of this machine, written by `slipway up`. Secrets are in files."""

    airflow_url: str = Field(
        "", description="Address of Airflow's web server; empty: it is not running."
    )
    airflow_user: str = Field("", description="User that the command line signs in as.")
    airflow_password_file: str = Field("", description="File with that user's password.")
    tracking_uri: str = Field("", description="Address of MLflow; empty: it is not running.")
    tracking_password_file: str = Field("", description="File with MLflow's password.")
    agent_url: str = Field("", description="Address of the serving agent's control API.")
    agent_token_file: str = Field("", description="File with the token that the agent wants.")
    data_plane_url: str = Field("", description="Where callers ask for predictions.")
    data_plane_token_file: str = Field("", description="Callers must send its content; or empty.")
    data_plane_certificate_file: str = Field("", description="What callers trust, if it is TLS.")
    root: str = Field(description="Artifact root of all pipelines.")
