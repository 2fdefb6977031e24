"""How a step becomes running processes: on this machine (`processes/`), on a cluster (`cluster/`).

What both share is here: the job and its roles (`job_spec`), what the end of a replica means
(`restarts`), what decides that a step has succeeded (`own_result`), the variables and packages
that a component finds (`environment`). Airflow's side is `operators/`; this room never imports it.
"""
