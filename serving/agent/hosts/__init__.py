"""How model servers are run: as supervisord's programs, or as a cluster's Deployments."""
