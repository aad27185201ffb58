-- Copies both bodies of an exchange into dynamic metadata, chunk by chunk, while they stream past.
--
-- The gRPC access log exports that metadata when the stream ends, however it ends: a client that left and a
-- backend that died are recorded too. Nothing is held back, nothing is changed, nothing is awaited.
--
-- The script is static; a route switches it on through its filter context (route, role, cap). With a cap of 0
-- it looks at no body at all and only says who was exposed to an experiment: unit names the header that tells
-- whose a request is, noise that the leg's own variant is asked a second time.
-- Bodies are base64: metadata values are protobuf strings, and one invalid UTF-8 byte would cost the whole
-- batch of log entries. Wrappers of Envoy die at every yield, so the metadata is fetched anew each time.
local NS, FLUSH = "shiftplane.capture", 16
local concat = table.concat
local function us(h) return h:timestampString(EnvoyTimestampResolution.MICROSECOND) end
local function put(h, k, v) h:streamInfo():dynamicMetadata():set(NS, k, v) end
local UNIT = 256

local function told(h, context)
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
  told(h, context)
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
  -- One metadata write per FLUSH chunks keeps the cost per token low; the first chunk is written at once,
  -- so that a stream cut early still shows its first token.
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
