-- Which of some vectors the shared state has: see shared.py. KEYS: the head, as keep.lua has it.
-- ARGV: bytes of an entry beside its value; then digests.
-- Returns the value of each digest, or nil. What only the older generation has goes into the newest.
local head = KEYS[1]
local newest = tonumber(redis.call('HGET', head, 'newest') or 0)
local into, older = head .. ':' .. newest, head .. ':' .. (newest - 1)
local found = redis.call('HMGET', into, unpack(ARGV, 2))
local missing, places = {}, {}
for i = 1, #ARGV - 1 do
  if not found[i] then
    missing[#missing + 1] = ARGV[i + 1]
    places[#places + 1] = i
  end
end
if #missing == 0 or redis.call('EXISTS', older) == 0 then return found end
local values, bytes = redis.call('HMGET', older, unpack(missing)), 0
for i = 1, #missing do
  if values[i] then
    found[places[i]] = values[i]
    local set = redis.pcall('HSET', into, missing[i], values[i])  -- no room is no fault of a look
    if set == 1 then bytes = bytes + 1.25 * #values[i] + tonumber(ARGV[1]) end
  end
end
if bytes > 0 then
  bytes = bytes + tonumber(redis.call('HGET', head, 'bytes') or 0)
  redis.pcall('HSET', head, 'bytes', string.format('%.0f', bytes))
end
return found
