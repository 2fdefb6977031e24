"""Requests to a served model: the rows to send and where to send them."""
