"""Steps as processes of this machine: one process group a step, fresh or forked from a warm parent.

`step_process` starts a step and ends it for certain. `guard` looks after a process group.
`role_processes` runs a job of several roles. `warm_parent` is the process that forks; `warm_start`
asks it, by the messages of `fork_request`; `must_equal` says whom it serves, by variables, limits
and the bounds of `confinement`. `python_command` is what the fork then runs; `forked_program` does
that for a program that a supervisor keeps. `listening` makes the socket, `readable` waits.
"""
