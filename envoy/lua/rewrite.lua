-- Replaces the top-level "model" of a JSON request by the name that the backend uses, adds a system prompt to its
-- messages, and changes no other byte.
--
-- Envoy's Lua has no JSON library, and a library would serialize the body again: numbers, key order and white
-- space would change. This scanner only skips strings and tracks the depth, so a nested "model" is not changed.
-- A route, or one variant of a split, enables it through the filter context: model (a JSON string with its quotes)
-- and cap (bytes). The prompts and their assignment to users are in the route's metadata (prompt).
-- A body that is not JSON, is compressed or is larger than cap is passed on unchanged, and the reason is written to
-- the dynamic metadata that the access log exports.
local find, byte, sub = string.find, string.byte, string.sub
local band, bxor, rol, rshift, tobit = bit.band, bit.bxor, bit.rol, bit.rshift, bit.tobit
local NS = "shiftplane.capture"
local SLOTS = 10000

-- i: index of the opening quote. Returns the index of the closing quote, or nil.
local function skip_string(s, i)
  local p = i + 1
  while true do
    local q = find(s, '["\\]', p)
    if not q then return nil end
    if byte(s, q) == 34 then return q end
    p = q + 2
  end
end

-- Returns the index at which the value of a top-level key starts, or nil. The last of repeated keys is used, as
-- JSON parsers do.
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

-- i: index of the first byte of a value. Returns the index of its last byte, or nil.
local function skip_value(s, i)
  local c = byte(s, i)
  if c == 34 then return skip_string(s, i) end
  if c ~= 123 and c ~= 91 then
    local e = find(s, '[,%]}%s]', i)
    return e and e > i and e - 1 or nil
  end
  local depth = 0
  while true do
    i = find(s, '["{}%[%]]', i)
    if not i then return nil end
    c = byte(s, i)
    if c == 34 then
      i = skip_string(s, i)
      if not i then return nil end
    elseif c == 123 or c == 91 then
      depth = depth + 1
    else
      depth = depth - 1
      if depth == 0 then return i end
    end
    i = i + 1
  end
end

-- i: index of the opening brace of an object. Returns the first and last index of each value, by key, and the index
-- of the closing brace.
local function members(s, i)
  local found = {}
  local p = i + 1
  while true do
    p = find(s, '[^%s,]', p)
    if not p then return nil end
    local c = byte(s, p)
    if c == 125 then return found, p end
    local e = c == 34 and skip_string(s, p)
    if not e then return nil end
    local _, colon = find(s, '^%s*:%s*', e + 1)
    local last = colon and skip_value(s, colon + 1)
    if not last then return nil end
    found[sub(s, p + 1, e - 1)] = {colon + 1, last}
    p = last + 1
  end
end

-- i: index of the opening bracket of the messages. Returns the first and last index of the content of the first
-- system message (nil without one), and whether the list has messages; returns false if it is no list of objects.
local function system_content(s, i)
  local p, any = i + 1, false
  while true do
    p = find(s, '[^%s,]', p)
    if not p then return false end
    local c = byte(s, p)
    if c == 93 then return nil, any end
    local fields, last
    if c == 123 then fields, last = members(s, p) end
    if not fields then return false end
    any = true
    local role = fields.role and sub(s, fields.role[1], fields.role[2])
    if (role == '"system"' or role == '"developer"') and fields.content then return fields.content, true end
    p = last + 1
  end
end

-- Each edit is {first, last, text}: text replaces the bytes from first to last.
local function model_edit(s, model)
  local v = top_value(s, "model")
  if not v then return nil, "no_model" end
  if byte(s, v) ~= 34 then return nil, "model_not_text" end
  local e = skip_string(s, v)
  if not e then return nil, "not_json" end
  return {v, e, model}
end

local function prompt_edit(s, text, mode)
  local v = top_value(s, "messages")
  if not v or byte(s, v) ~= 91 then return nil, "not_chat" end
  local content, any = system_content(s, v)
  if content == false then return nil, "not_json" end
  if mode == "insert" or not content then
    return {v + 1, v, '{"role":"system","content":"' .. text .. '"}' .. (any and "," or "")}
  end
  local first, last = content[1], content[2]
  if mode == "append" and byte(s, first) == 34 then
    return {last, last - 1, (last > first + 1 and "\\n\\n" or "") .. text}
  end
  if mode == "append" and byte(s, first) == 91 then
    local comma = find(s, '^%s*%]', first + 1) and "" or ","
    return {last, last - 1, comma .. '{"type":"text","text":"' .. text .. '"}'}
  end
  return {first, last, '"' .. text .. '"'}
end

local function applied(s, one, other)
  if one and other and other[1] < one[1] then one, other = other, one end
  one = one or other
  local parts = {sub(s, 1, one[1] - 1), one[3]}
  if other and other ~= one then
    parts[3], parts[4] = sub(s, one[2] + 1, other[1] - 1), other[3]
    parts[5] = sub(s, other[2] + 1)
  else
    parts[3] = sub(s, one[2] + 1)
  end
  return table.concat(parts)
end

-- xxHash32 with seed 0. Lua numbers are doubles, so a 32 x 32 bit product is the sum of two 16 x 32 bit products.
local P1, P2, P3, P4, P5 = 2654435761, 2246822519, 3266489917, 668265263, 374761393
local function mul(a, b) return tobit(band(a, 0xffff) * b + (rshift(a, 16) * b % 65536) * 65536) end
local function lane(s, i)
  local a, b, c, d = byte(s, i, i + 3)
  return tobit(a + b * 256 + c * 65536 + d * 16777216)
end
local function round(v, w) return mul(rol(tobit(v + mul(w, P2)), 13), P1) end
local function xxh32(s)
  local n, i, h = #s, 1, nil
  if n >= 16 then
    local a, b, c, d = tobit(P1 + P2), tobit(P2), 0, tobit(-P1)
    while i + 15 <= n do
      a, b = round(a, lane(s, i)), round(b, lane(s, i + 4))
      c, d = round(c, lane(s, i + 8)), round(d, lane(s, i + 12))
      i = i + 16
    end
    h = tobit(rol(a, 1) + rol(b, 7) + rol(c, 12) + rol(d, 18))
  else
    h = tobit(P5)
  end
  h = tobit(h + n)
  while i + 3 <= n do
    h = mul(rol(tobit(h + mul(lane(s, i), P3)), 17), P4)
    i = i + 4
  end
  while i <= n do
    h = mul(rol(tobit(h + byte(s, i) * P5), 11), P1)
    i = i + 1
  end
  h = mul(bxor(h, rshift(h, 15)), P2)
  h = mul(bxor(h, rshift(h, 13)), P3)
  return bxor(h, rshift(h, 16)) % 4294967296
end

-- Returns the prompt version of a request: by a pin, else by the slot of the sticky header, else the default.
local function version_of(prompt, headers)
  for _, pin in ipairs(prompt.pins or {}) do
    local value = headers:get(pin.header)
    if value and pin.values[value] then return pin.version end
  end
  if not prompt.header then return prompt.default end
  local value = headers:get(prompt.header)
  if not value then return prompt.default, "no_key" end
  local slot = xxh32(prompt.salt .. ":" .. value) % SLOTS
  for _, run in ipairs(prompt.slots) do
    if slot < run.upto then return run.version end
  end
  return prompt.default
end

local function note(h, key, value)
  h:streamInfo():dynamicMetadata():set(NS, key, value)
end

-- Only chat completions have messages in this form; other APIs have the system prompt in another field.
local function is_chat(headers)
  local path = headers:get(":path") or ""
  local query = find(path, "?", 1, true)
  return sub(query and sub(path, 1, query - 1) or path, -17) == "/chat/completions"
end

-- Returns the edits of a body, or the reasons why there are none. An error in here leaves the body unchanged.
local function edits(s, model, text)
  local one, other, model_reason, prompt_reason
  if model then one, model_reason = model_edit(s, model) end
  if text then other, prompt_reason = prompt_edit(s, text.text, text.mode) end
  return one, other, model_reason, prompt_reason
end

-- Returns the reason why a body must not be changed, or nil.
local function closed(headers, cap)
  local content_type = headers:get("content-type")
  -- Without a content type, the scanner decides whether the body is JSON.
  if content_type and not find(content_type:lower(), "json", 1, true) then
    return headers:get("content-length") == "0" and "empty" or "content_type"
  end
  if headers:get("content-encoding") then return "encoded" end
  local length = tonumber(headers:get("content-length") or "0")
  if length and length > cap then return "too_large" end
  return nil
end

function envoy_on_request(h)
  local context = h:filterContext()
  local model, cap = context:get("model"), tonumber(context:get("cap"))
  local prompt = h:metadata():get("prompt")
  if not model and not prompt then return end
  local headers = h:headers()
  local version, why
  if prompt then version, why = version_of(prompt, headers) end
  local text = version and version ~= "" and prompt.texts[version]
  if text and not is_chat(headers) then
    note(h, "prompt_skipped", "not_chat")
    text = nil
  end
  if why then note(h, "prompt_key", why) end
  if not model and not text then return end
  local reason = closed(headers, cap - (text and #text.text + 64 or 0))
  local body = not reason and h:body()
  local length = body and body:length() or 0
  if not reason and length > 0 then
    local s = body:getBytes(0, length)
    if not find(s, '^%s*{') then
      reason = "not_json"
    else
      local ok, one, other, model_reason, prompt_reason = pcall(edits, s, model, text)
      if not ok then
        one, other = nil, nil
        model_reason, prompt_reason = model and "error", text and "error"
      end
      if one or other then
        -- setBytes changes the buffer only, so content-length is set too. Wrapper objects from before body() are
        -- invalid after its yield, so the headers are fetched again.
        local written = body:setBytes(applied(s, one, other))
        headers = h:headers()
        if headers:get("content-length") then headers:replace("content-length", tostring(written)) end
        if other then
          headers:replace("x-shiftplane-prompt", version)
          note(h, "prompt", version)
        end
      end
      if model_reason then note(h, "rewrite", "skipped:" .. model_reason) end
      if prompt_reason then note(h, "prompt_skipped", prompt_reason) end
      return
    end
  end
  if reason and reason ~= "empty" then
    if model then note(h, "rewrite", "skipped:" .. reason) end
    if text then note(h, "prompt_skipped", reason) end
  end
end
