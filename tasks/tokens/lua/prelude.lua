-- Stands before every script: names the keys (see keys.py) and what several scripts do.
local DUE, EXPIRY, CLAIMS, GENERATION, LIMITER = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local RUNS, TICKETS, FOLLOW_UP, FORGOTTEN = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local FAILING, PARTNER, PARTNER_LOCK = KEYS[10], KEYS[11], KEYS[12]
local TOKEN, STATE, RUN = KEYS[13], KEYS[14], KEYS[15] -- prefixes; an id follows

local RUN_KEPT_MS = 48 * 3600 * 1000
local HORIZON_US = 250000

local function server_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Generations never rewind, not even when Redis comes back without its last seconds.
local function next_generation()
  local last = tonumber(redis.call('GET', GENERATION)) or 0
  local generation = string.format('%.0f', math.max(last + 1, server_us()))
  redis.call('SET', GENERATION, generation)
  return generation
end

-- The due score from before the claim if `generation` still holds the account, else nil.
local function claimed_score(account, generation)
  local claim = redis.call('HGET', CLAIMS, account)
  if not claim then return nil end
  local holder, score = string.match(claim, '^(%d+) (%S+)$')
  if holder == generation then return score end
  return nil
end

local ended = {} -- runs that this script has ended

local function end_if_settled(run, now)
  local key = RUN .. run
  if redis.call('HGET', key, 'filling') ~= '0' then return end
  if redis.call('SCARD', key .. ':open') > 0 then return end
  if redis.call('HSETNX', key, 'ended_at', now) == 1 then
    redis.call('ZADD', RUNS, now, run)
    ended[#ended + 1] = run
  end
end

local function file_under(run, part, account)
  local key = RUN .. run .. ':' .. part
  if redis.call('SADD', key, account) == 1 and redis.call('SCARD', key) == 1 then
    redis.call('PEXPIRE', key, RUN_KEPT_MS)
  end
end

local function file_failed(run, reason, account)
  file_under(run, 'failed:' .. reason, account)
  file_under(run, 'reasons', reason)
end

-- Tell every run that waits for the account; `reason` is nil where it got its token.
local function settle(account, now, reason)
  local attached = redis.call('HGET', STATE .. account, 'runs')
  if not attached then return end
  redis.call('HDEL', STATE .. account, 'runs')
  for run in string.gmatch(attached, '%S+') do
    local key = RUN .. run
    if redis.call('HEXISTS', key, 'ended_at') == 0
        and redis.call('SREM', key .. ':open', account) == 1 then
      if reason then file_failed(run, reason, account) else file_under(run, 'done', account) end
      end_if_settled(run, now)
    end
  end
end

-- GCRA with reservations: grants up to `want` instants within the horizon.
-- Returns how many, when the first is (µs from now; below 0: at once), the spacing in µs, and,
-- where none is granted, how long to wait before asking again in µs.
-- Instants that lie in the past are the burst, saved up while nobody called.
local function reserve(rate, burst, want)
  local now = server_us()
  local spacing = 1000000 / rate
  local horizon = math.max(HORIZON_US, spacing)
  local kept = redis.call('HMGET', LIMITER, 'next_at', 'paused_until')
  local first = math.max(tonumber(kept[1]) or 0, now - burst * spacing)
  first = math.max(first, tonumber(kept[2]) or 0)
  local room = math.floor((now + horizon - first) / spacing) + 1
  local granted = math.min(want, room, math.max(1, math.floor(rate * HORIZON_US / 1000000)))
  if granted < 1 then
    return 0, 0, 0, math.ceil(first - now - horizon + 1)
  end
  redis.call('HSET', LIMITER, 'next_at', string.format('%.0f', first + granted * spacing))
  redis.call('PEXPIRE', LIMITER, 3600 * 1000)
  return granted, math.floor(first - now), math.ceil(spacing), 0
end
