"""Puts the model that a client named back into an answer: Lua, where there is no native filter.

The picker's name comes in the answer to the callout and waits in dynamic metadata. The script does
to each chunk what ``native/restore.c`` and ``picker/restore.py`` do, and holds none back.
"""

from __future__ import annotations

from inferway.gateway.envoy.names import PICK_NAMESPACE, RESTORE_HEADER

# States as in the others: the beginning of a line of an event stream, a line that is no data,
# outside of strings, in a string that may be a key that counts, in another, behind such a key,
# before its value, in the value that is left out.
_MACHINE = r"""
local LINE, SKIP, VALUES, KEY, STRING, COLON, BEFORE, CUT = 1, 2, 3, 4, 5, 6, 7, 8
local HOLDERS = {message = true, response = true}
local byte, find, sub = string.byte, string.find, string.sub

local function restorer(name, events)
  local state, escaped, key, depth, held
  local function reset()
    state, escaped, key, depth, held = events and LINE or VALUES, false, "", 0, false
  end
  local function outside(code)
    if code == 34 then
      state = (depth == 1 or (depth == 2 and held)) and KEY or STRING
      key = ""
    elseif code == 123 or code == 91 then
      depth = depth + 1
    elseif code == 125 or code == 93 then
      depth = depth > 0 and depth - 1 or 0
      held = held and depth > 1
    end
  end
  -- Through a string up to its end, a backslash, a line's end, or the piece's; where to look on.
  local function in_string(piece, at)
    local upto = find(piece, '["\\\r\n]', at) or #piece + 1
    if state == KEY and #key <= 8 then key = key .. sub(piece, at, math.min(upto - 1, at + 8)) end
    local code = byte(piece, upto)
    if code == nil then return upto end
    if code == 34 then
      state = state == KEY and (key == "model" or HOLDERS[key]) and COLON or VALUES
    elseif code == 92 then
      escaped = true
      if state == KEY then state = STRING end
    elseif events then
      return upto
    end
    return upto + 1
  end
  local function pass(piece, at, code)
    if state == KEY or state == STRING then return in_string(piece, at) end
    if state == LINE then
      key = key .. sub(piece, at, at)
      if key == "data:" then state = VALUES
      elseif key ~= sub("data:", 1, #key) then state = SKIP end
      return at + 1
    end
    if state == SKIP then return find(piece, "[\r\n]", at) or #piece + 1 end
    if state == COLON and code == 58 then
      state = BEFORE
      return at + 1
    end
    if state == COLON or state == BEFORE then
      if code == 32 or code == 9 or code == 13 or code == 10 then return at + 1 end
      if state == BEFORE and code == 123 and depth == 1 then held = HOLDERS[key] or false end
      state = VALUES
    end
    local upto = find(piece, '["{}%[%]\r\n]', at)
    if upto == nil then return #piece + 1 end
    code = byte(piece, upto)
    if events and (code == 10 or code == 13) then return upto end
    outside(code)
    return upto + 1
  end
  reset()
  return function(piece)
    local made, kept, at, stop = "", 1, 1, #piece
    while at <= stop do
      local code = byte(piece, at)
      if events and (code == 10 or code == 13) then
        reset()
        at = at + 1
      elseif escaped then
        escaped = false
        at = at + 1
        if state == CUT then kept = at end
      elseif state == CUT then
        at = in_string(piece, at)
        kept = at
      elseif state == BEFORE and code == 34 and key == "model" then
        made = made .. sub(piece, kept, at - 1) .. name
        state = CUT
        at = at + 1
        kept = at
      else
        at = pass(piece, at, code)
      end
    end
    return made .. sub(piece, kept)
  end
end
"""
# In the answer's way: most have no name to put back and go on after one look.
RESTORE_SCRIPT = f"""{_MACHINE}
function envoy_on_response(handle)
  local said = handle:streamInfo():dynamicMetadata():get("{PICK_NAMESPACE}")
  local name = said and said["{RESTORE_HEADER}"]
  if name == nil then return end
  local headers = handle:headers()
  local kind = headers:get("content-type") or ""
  local events = sub(kind, 1, 17) == "text/event-stream"
  if not events and sub(kind, 1, 16) ~= "application/json" then return end
  if (headers:get("content-encoding") or "identity") ~= "identity" then return end
  headers:remove("content-length")
  local feed = restorer(name, events)
  for chunk in handle:bodyChunks() do
    local piece = chunk:getBytes(0, chunk:length())
    local changed = feed(piece)
    if changed ~= piece then chunk:setBytes(changed) end
  end
end
"""
