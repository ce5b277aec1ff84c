-- What hosts share of the limits: see leases.py, whose Grantor says the same in Python.
-- KEYS: the epoch; the hosts by when they asked; then for each limit a hash and a list.
--   hash: "out:HOST" = "how many until number" (of its last ask), total = the list's sum; list: "time how many", in the order of time.
-- ARGV: form (1), host, epoch, where calls go (HOST is put behind it), ms that a balance is held;
--   then for each limit its name, count, period, number, back, keep, need, least, want, and the number of
--   pairs of age and how many that follow. All times in ms.
-- Returns the epoch, how many hosts asked in the last minute, and for each limit a list: granted,
--   extra, left, retry, reset, others, and pairs of when and how many leave; none for any limit
--   where the epoch is another one: then the host has to tell all that it used.
local SLOTS, PLACES, SEEN, BACK = 500, 128, 60000, 1000
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local host, calls, hold = ARGV[2], ARGV[4], tonumber(ARGV[5])

local function text(number) return string.format('%.0f', number) end

local function parts(entry)
  local at, n, more = string.match(entry, '^(%d+) (%d+) ?(%d*)$')
  return tonumber(at), tonumber(n), tonumber(more)
end

local total  -- of the list at hand

local function insert(list, at, n, period)
  local slot = math.max(1, math.floor(period / SLOTS))
  at = math.ceil(at / slot) * slot
  total = total + n
  local index, newer = -1, nil
  while true do
    local entry = redis.call('LINDEX', list, index)
    local its, count
    if entry then its, count = parts(entry) end
    if its == at then
      redis.call('LSET', list, index, text(at) .. ' ' .. text(count + n))
      return
    end
    if not its or its < at then
      local made = text(at) .. ' ' .. text(n)
      if newer then redis.call('LINSERT', list, 'BEFORE', newer, made)
      else redis.call('RPUSH', list, made) end
      return
    end
    newer, index = entry, index - 1
  end
end

local function remove(list, n)
  while n > 0 do
    local entry = redis.call('RPOP', list)
    if not entry then return end
    local at, count = parts(entry)
    if count > n then redis.call('RPUSH', list, text(at) .. ' ' .. text(count - n)) end
    total, n = total - math.min(n, count), n - math.min(n, count)
  end
end

-- One limit: the answer, and where the next one's arguments begin.
local function asked(hash, list, name, at)
  local count, period = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local number, back = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local keep, need = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  local least, want = tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7])
  local pairs_, mine, others, hosts, holders = tonumber(ARGV[at + 8]), 0, 0, 1, {}
  local last = number - 1
  total = tonumber(redis.call('HGET', hash, 'total') or 0)
  while true do
    local entry = redis.call('LINDEX', list, 0)
    if not entry then
      total = 0
      break
    end
    local its, n = parts(entry)
    if its + period > now then break end
    redis.call('LPOP', list)
    total = total - n
  end
  local kept = redis.call('HGETALL', hash)
  for i = 1, #kept, 2 do
    local whose = string.match(kept[i], '^out:(.*)$')
    local n, ends, its
    if whose then n, ends, its = parts(kept[i + 1]) end
    if not whose then  -- the total
    elseif whose == host then mine, last = n, its
    elseif ends <= now then
      if n > 0 then insert(list, now + 1, n, period) end
      redis.call('HDEL', hash, kept[i])
    else
      hosts, others = hosts + 1, others + n
      if n > 0 then holders[#holders + 1] = whose end
    end
  end
  local used = 0
  for i = 1, pairs_ do
    local age, n = tonumber(ARGV[at + 7 + 2 * i]), tonumber(ARGV[at + 8 + 2 * i])
    used = used + n
    if n < 0 then remove(list, -n)
    elseif age < period then insert(list, now + 1 - age, n, period) end
  end
  mine = math.max(0, mine - used - back)
  if keep >= 0 and last == number - 1 then
    if mine > keep then insert(list, now + 1, mine - keep, period) end
    mine = keep
  end
  local free = count - total - others - mine
  local granted, extra = need, 0
  if need > free then
    granted = free >= least and free or 0
  elseif want > 0 then
    extra = math.max(0, math.min(want, math.floor((free - need) / (2 * hosts))))
  end
  if granted > 0 then insert(list, now + 1, granted, period) end
  mine = mine + extra
  redis.call('HSET', hash, 'out:' .. host,
    text(mine) .. ' ' .. text(now + hold) .. ' ' .. text(math.max(last, number)))
  redis.call('HSET', hash, 'total', text(total))
  redis.call('PEXPIRE', hash, period + 2 * hold)
  redis.call('PEXPIRE', list, period + 2 * hold)
  local left = free - granted - extra
  local answer = {granted, extra, left, 0, 0, others}
  local newest = redis.call('LINDEX', list, -1)
  if others + mine > 0 then answer[5] = period
  elseif newest then answer[5] = parts(newest) + period - now end
  if granted == need then return answer, at + 9 + 2 * pairs_ end
  for _, whose in ipairs(holders) do
    redis.call('RPUSH', calls .. whose, name)
    redis.call('PEXPIRE', calls .. whose, 2000)
  end
  local then_free, waits = left, nil
  local function leaves(after, n)
    then_free = then_free + n
    if not waits and then_free >= math.max(1, least) then waits = after end
    if #answer < 6 + 2 * PLACES then
      answer[#answer + 1] = after
      answer[#answer + 1] = n
    end
  end
  for _, entry in ipairs(redis.call('LRANGE', list, 0, -1)) do
    local its, n = parts(entry)
    local after = its + period - now
    if others > 0 and BACK <= after then
      leaves(BACK, others)
      others = 0
    end
    leaves(after, n)
  end
  if others > 0 then leaves(BACK, others) end
  answer[4] = waits or period
  return answer, at + 9 + 2 * pairs_
end

local epoch = redis.call('GET', KEYS[1])
if not epoch then
  epoch = clock[1] .. string.format('%06d', tonumber(clock[2]))
  redis.call('SET', KEYS[1], epoch)
end
redis.call('ZADD', KEYS[2], now, host)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - SEEN)
local answers, at = {epoch, redis.call('ZCARD', KEYS[2])}, 6
if epoch ~= ARGV[3] then return answers end
for limit = 1, (#KEYS - 2) / 2 do
  local answer
  answer, at = asked(KEYS[2 * limit + 1], KEYS[2 * limit + 2], ARGV[at], at + 1)
  answers[#answers + 1] = answer
end
return answers
