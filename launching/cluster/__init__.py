"""Jobs on a Kubernetes cluster: as plain pods, and as objects of Kubeflow's operators."""
