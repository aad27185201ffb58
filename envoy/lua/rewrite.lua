-- Gives the top-level "model" of a JSON request the name this leg's backend knows, and touches no other byte.
--
-- Envoy's Lua has no JSON library, and one would re-serialise the body: numbers, key order and white space
-- would change. This scanner only skips strings and tracks depth, so a nested "model" is left alone.
-- The route or the arm of a split switches it on through its filter context: model (a JSON string, quotes
-- included) and cap (bytes). Whatever is not JSON, is compressed or is larger than cap passes untouched, and
-- the reason is left in the dynamic metadata that the access log exports.
local find, byte, sub = string.find, string.byte, string.sub
local NS = "shiftplane.capture"

-- i: at the opening quote; returns the index of the closing quote, or nil.
local function skip_string(s, i)
  local p = i + 1
  while true do
    local q = find(s, '["\\]', p)
    if not q then return nil end
    if byte(s, q) == 34 then return q end
    p = q + 2
  end
end

-- Returns the index at which the value of a depth-1 key starts, or nil. JSON readers keep the last of
-- repeated keys, so the last one found counts.
local function top_value(s, key)
  local depth, i, found = 0, 1, nil
  while true do
    i = find(s, '["{}%[%]]', i)
    if not i then return found end
    local c = byte(s, i)
    if c == 34 then
      local e = skip_string(s, i)
      if not e then return found end
      if depth == 1 and sub(s, i + 1, e - 1) == key then
        local _, colon = find(s, '^%s*:%s*', e + 1)
        if colon then found = colon + 1 end
      end
      i = e + 1
    else
      if c == 123 or c == 91 then depth = depth + 1 else depth = depth - 1 end
      i = i + 1
    end
  end
end

local function rewrite(s, model)
  if not find(s, '^%s*{') then return nil, "not_json" end
  local v = top_value(s, "model")
  if not v then return nil, "no_model" end
  if byte(s, v) ~= 34 then return nil, "model_not_text" end
  local e = skip_string(s, v)
  if not e then return nil, "not_json" end
  return sub(s, 1, v - 1) .. model .. sub(s, e + 1)
end

local function skipped(h, reason)
  h:streamInfo():dynamicMetadata():set(NS, "rewrite", "skipped:" .. reason)
end

function envoy_on_request(h)
  local context = h:filterContext()
  local model = context:get("model")
  if not model then return end
  local headers = h:headers()
  local content_type = headers:get("content-type")
  -- A request without a content type is given the benefit of the doubt; the scanner decides.
  if content_type and not find(content_type:lower(), "json", 1, true) then
    if headers:get("content-length") ~= "0" then skipped(h, "content_type") end
    return
  end
  if headers:get("content-encoding") then return skipped(h, "encoded") end
  local length = tonumber(headers:get("content-length") or "0")
  if length and length > tonumber(context:get("cap")) then return skipped(h, "too_large") end
  local body = h:body()
  if not body then return end
  local changed, reason = rewrite(body:getBytes(0, body:length()), model)
  if not changed then return skipped(h, reason) end
  -- setBytes changes the buffer only; the header must say the same. Wrappers taken before body() died at
  -- its yield, so the headers are fetched anew.
  local written = body:setBytes(changed)
  headers = h:headers()
  if headers:get("content-length") then headers:replace("content-length", tostring(written)) end
end
