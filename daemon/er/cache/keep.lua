-- Vectors into the shared state: see shared.py.
-- KEYS: the head, a hash: newest, which generation it is; bytes, about what that holds. Generation N
--   is a hash beside it, head:N, digest to value.
-- ARGV: bytes that a generation may hold, s that it stays when nothing is added, bytes of an entry
--   beside its value; then pairs of digest and value.
-- Returns 1; 0 where the server has too little memory left, which keys and limits may need.
local head, most, stays, beside = KEYS[1], tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local told = redis.call('INFO', 'memory')
local used = tonumber(string.match(told, 'used_memory:(%d+)'))
local there = tonumber(string.match(told, 'maxmemory:(%d+)'))
if there > 0 and used > there * 0.8 then return 0 end
local newest = tonumber(redis.call('HGET', head, 'newest') or 0)
local bytes = tonumber(redis.call('HGET', head, 'bytes') or 0)
if bytes >= most then
  redis.call('UNLINK', head .. ':' .. (newest - 1))
  newest, bytes = newest + 1, 0
end
local into = head .. ':' .. newest
if redis.call('EXISTS', into) == 0 then bytes = 0 end
for i = 4, #ARGV, 2 do
  if redis.call('HSET', into, ARGV[i], ARGV[i + 1]) == 1 then
    bytes = bytes + 1.25 * #ARGV[i + 1] + beside  -- malloc rounds up by as much
  end
end
redis.call('HSET', head, 'newest', newest, 'bytes', string.format('%.0f', bytes))
redis.call('EXPIRE', head, stays)
redis.call('EXPIRE', into, stays)
return 1
