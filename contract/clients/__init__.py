"""How other services are called; what they refuse becomes our errors.

`http` is for everything with an HTTP address outside the data plane, `cluster` for Kubernetes'
API. Only here does the contract know client libraries, and nothing else of it imports this room.
"""
