"""The judge over HTTP for Flagger and Argo Rollouts: their protocols, no statistics."""
