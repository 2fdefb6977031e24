"""Airflow's command line, in a process that has imported already what every task of ours imports.

`python -m operators.warm_airflow scheduler` is `airflow scheduler`. Its workers and their tasks are
forks of it, so none of them pays for reading the contract and the operators again: half a CPU
second for each step of each run. So is each reading of the DAG files for the dag-processor.
"""

from airflow.__main__ import main

import operators.approval
import operators.start
import operators.steps  # noqa: F401 (imported for those who are forked)

if __name__ == "__main__":
    main()
