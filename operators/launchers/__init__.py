"""Ways to run a job of several roles: processes of one machine, pods, and Kubeflow's operators."""
