-- Batches in the shared state: see mirrored.py.
-- KEYS: the batch's hash (owner, host, the hosts that had it before, record, file, and how large its
--   input, output and errors are);
--   the index, a hash of batch to host; the bytes that all take. Its bytes lie beside the hash in
--   pieces, HASH:input:0 and so on.
-- ARGV: what to do, the batch, the host that asks; then
--   grow: which of the three, where it goes on, the data, bytes of a piece, bytes that all may take.
--     Returns how large it is then; -1 the batch is another host's, -2 there is no room.
--   save: pairs of field and value. Returns 1; 0 the batch is another host's.
--   claim: the host that had it. Returns 1; 0 it is somebody else's.
--   drop: bytes of a piece. Returns 1; 0 the batch is another host's.
local hash, index, total = KEYS[1], KEYS[2], KEYS[3]
local act, batch, host = ARGV[1], ARGV[2], ARGV[3]
local has = redis.call('HGET', hash, 'host')

if act == 'claim' then
  if has ~= ARGV[4] then return 0 end
  local before = redis.call('HGET', hash, 'before')
  redis.call('HSET', hash, 'host', host, 'before', (before and before .. ',' or '') .. has)
  redis.call('HSET', index, batch, host)
  return 1
end
if has and has ~= host then return act == 'grow' and -1 or 0 end

if act == 'save' then
  redis.call('HSET', hash, 'host', host, unpack(ARGV, 4))
  redis.call('HSET', index, batch, host)
  return 1
end

if act == 'grow' then
  local what, at, data = ARGV[4], tonumber(ARGV[5]), ARGV[6]
  local piece, most = tonumber(ARGV[7]), tonumber(ARGV[8])
  local size = tonumber(redis.call('HGET', hash, what) or 0)
  if size ~= at or not has then return size end
  local taken = tonumber(redis.call('GET', total) or 0)
  if taken + #data > most then return -2 end
  local done = 0
  while done < #data do
    local number = math.floor((at + done) / piece)
    local room = (number + 1) * piece - (at + done)
    local part = string.sub(data, done + 1, done + room)
    redis.call('APPEND', hash .. ':' .. what .. ':' .. number, part)
    done = done + #part
  end
  redis.call('HSET', hash, what, string.format('%.0f', at + done))
  redis.call('SET', total, string.format('%.0f', taken + done))
  return at + done
end

local gone = 0  -- drop
for _, what in ipairs({'input', 'output', 'errors'}) do
  local size = tonumber(redis.call('HGET', hash, what) or 0)
  for number = 0, math.ceil(size / tonumber(ARGV[4])) - 1 do
    redis.call('UNLINK', hash .. ':' .. what .. ':' .. number)
  end
  gone = gone + size
end
redis.call('UNLINK', hash)
redis.call('HDEL', index, batch)
local left = math.max(0, tonumber(redis.call('GET', total) or 0) - gone)
redis.call('SET', total, string.format('%.0f', left))
return 1
