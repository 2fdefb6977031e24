"""How other services are called; what they refuse becomes our errors.

`http` is for everything with an HTTP address, outside the data plane. Only here does the contract
know a client library, and nothing else of the contract imports this room.
"""
