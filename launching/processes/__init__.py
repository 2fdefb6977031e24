"""Steps as processes of this machine: one process group a step, ended for certain."""
