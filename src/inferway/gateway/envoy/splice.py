"""Model rewrite without a JSON parser: the picker names byte offsets, Lua cuts the body there.

The same filter puts the client's name back into answers (``restore``).

Switched on only by entries of pools that need it, because Lua has its price on each request.
"""

from __future__ import annotations

from envoy.extensions.filters.http.lua.v3 import lua_pb2
from google.protobuf import any_pb2

from inferway.gateway.envoy.names import SPLICE_HEADER
from inferway.gateway.envoy.pack import pack
from inferway.gateway.envoy.restore import RESTORE_SCRIPT

SPLICE_FILTER = "inferway.splice"
_SCRIPT_NAME = "splice"
# Offsets that do not fit the body leave it as it is: a server answers 404 for a model it does not
# have, while a body cut at random would be an error that nobody understands.
_SCRIPT = f"""
function envoy_on_request(handle)
  local splice = handle:headers():get("{SPLICE_HEADER}")
  if splice == nil then return end
  handle:headers():remove("{SPLICE_HEADER}")
  local first, last, value = string.match(splice, "^(%d+),(%d+),(.*)$")
  local body = handle:body()
  if first == nil or body == nil then return end
  first, last = tonumber(first), tonumber(last)
  local length = body:length()
  if first > last or last > length then return end
  local whole = body:getBytes(0, length)
  body:setBytes(string.sub(whole, 1, first) .. value .. string.sub(whole, last + 1))
end
"""


def splice_filter() -> any_pb2.Any:
    """The filter for the table of filters."""
    message = lua_pb2.Lua()
    message.source_codes[_SCRIPT_NAME].inline_string = _SCRIPT + RESTORE_SCRIPT
    return pack(message)


def splice_entry() -> any_pb2.Any:
    """What an entry that rewrites models sets for the filter."""
    return pack(lua_pb2.LuaPerRoute(name=_SCRIPT_NAME))
