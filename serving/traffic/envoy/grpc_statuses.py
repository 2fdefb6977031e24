"""Whose fault a grpc-status is: HTTP says 200 to all of them.

Source: https://grpc.io/docs/guides/status-codes/, for the numbers and what they mean; google.rpc's
code.proto, for the status of HTTP that each means: client errors are those of 4xx, and
UNIMPLEMENTED, because what no model server implements was asked for by the caller.
"""

from serving.traffic.envoy.documents import TYPE, Document, named

OK = 0
# CANCELLED, DEADLINE_EXCEEDED: the caller left, or its deadline passed, and the server was the
# first to say so. Where the caller was the first there is no status.
ABANDONED = frozenset((1, 4))
# INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, RESOURCE_EXHAUSTED (a message too
# large, a quota), FAILED_PRECONDITION, ABORTED, OUT_OF_RANGE, UNIMPLEMENTED, UNAUTHENTICATED. All
# others, also ones that gRPC does not know, are errors.
CLIENT_ERRORS = frozenset((3, 5, 6, 7, 8, 9, 10, 11, 12, 16))

_SCRIPT = """
local callers = {{{callers}}}
function envoy_on_response(handle)
  local status = handle:headers():get("grpc-status")
  if status == nil or status == "0" then return end
  handle:headers():replace(":status", callers[status] and "400" or "500")
end
"""


def is_error(status: int) -> bool:
    """Tell whether a status is the version's fault."""
    return status != OK and status not in ABANDONED and status not in CLIENT_ERRORS


def status_filter() -> Document:
    """Return the filter that counts calls by their grpc-status: `cluster.NAME.grpc.STATUS`."""
    kind = f"{TYPE}.extensions.filters.http.grpc_stats.v3.FilterConfig"
    return named("envoy.filters.http.grpc_stats", {"@type": kind})


def status_in_http() -> Document:
    """Return a filter of a cluster that puts an error's status into HTTP's, where that is counted.

    The copies for a shadow pass no filter of the listener, and that one is none for a cluster.
    Nobody gets these answers. A server of one answer sends an error's status in the headers. Here
    what passes the caller's deadline is an error: nobody but the shadow is late.
    """
    callers = ", ".join(f'["{status}"] = true' for status in sorted(CLIENT_ERRORS))
    source = {"inline_string": _SCRIPT.format(callers=callers)}
    kind = f"{TYPE}.extensions.filters.http.lua.v3.Lua"
    return named("envoy.filters.http.lua", {"@type": kind, "default_source_code": source})
