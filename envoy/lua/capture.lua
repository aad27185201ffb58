-- Copies the request body and the response body into dynamic metadata, chunk by chunk, while they are streamed.
--
-- The gRPC access log exports the metadata when the stream ends, also if the client disconnects or the backend
-- fails. The script does not buffer, change or delay the stream.
--
-- The script is the same for all routes; a route enables it through its filter context (route, role, cap). With
-- cap 0, no body is read, and only the exposure to an experiment is recorded: `unit` names the header with the
-- user of the request, and `noise` means that the variant of this leg receives the request a second time.
-- Bodies are base64-encoded: metadata values are protobuf strings, and one invalid UTF-8 byte would make Envoy
-- lose the whole batch of log entries. Envoy's wrapper objects become invalid at every yield, so the metadata
-- object is fetched again for each write.
local NS, FLUSH = "shiftplane.capture", 16
local concat = table.concat
local function us(h) return h:timestampString(EnvoyTimestampResolution.MICROSECOND) end
local function put(h, k, v) h:streamInfo():dynamicMetadata():set(NS, k, v) end
local UNIT = 256

local function put_exposure(h, context)
  local unit, experiment = context:get("unit"), context:get("experiment")
  if experiment then put(h, "experiment", experiment) end
  if context:get("noise") then put(h, "noise", "1") end
  if not unit then return end
  local value = h:headers():get(unit)
  if value then put(h, "unit", h:base64Escape(value:sub(1, UNIT))) end
end

function envoy_on_request(h)
  local context = h:filterContext()
  local route = context:get("route")
  if not route then return end
  local cap = tonumber(context:get("cap"))
  put(h, "route", route)
  put(h, "role", context:get("role"))
  put_exposure(h, context)
  if cap == 0 then return end
  put(h, "t0", us(h))
  local parts, n, total = {}, 0, 0
  for chunk in h:bodyChunks() do
    local length = chunk:length()
    if length > 0 then
      local room = cap - total
      if room > 0 then
        n = n + 1
        parts[n] = chunk:getBytes(0, length < room and length or room)
      end
      total = total + length
    end
  end
  put(h, "req", h:base64Escape(concat(parts)))
  put(h, "req_total", tostring(total))
  put(h, "req_end", us(h))
end

function envoy_on_response(h)
  local context = h:filterContext()
  if not context:get("route") then return end
  local cap = tonumber(context:get("cap"))
  if cap == 0 then return end
  put(h, "th", us(h))
  local chunks, total, piece, n = 0, 0, 0, 0
  local bodies, times = {}, {}
  -- One metadata write per FLUSH chunks keeps the cost per token low. The first chunk is written at once, so that
  -- a stream that is interrupted early still has the time of its first token.
  local function flush()
    if n == 0 then return end
    piece = piece + 1
    put(h, "b" .. piece, h:base64Escape(concat(bodies)))
    put(h, "t" .. piece, concat(times, ","))
    bodies, times, n = {}, {}, 0
  end
  for chunk in h:bodyChunks() do
    local length = chunk:length()
    if length > 0 then
      chunks = chunks + 1
      local room = cap - total
      if room > 0 then
        n = n + 1
        bodies[n] = chunk:getBytes(0, length < room and length or room)
        times[n] = us(h) .. ":" .. length
        if n >= FLUSH or chunks == 1 then flush() end
      end
      total = total + length
    end
  end
  flush()
  put(h, "end", us(h) .. ":" .. chunks .. ":" .. total)
end
