-- ARGV: now, name for new tickets, accounts per ticket, most tickets, lapse ms, longest follow-up
-- ms, '1' for a sweep, lease of the discovery in ms or 0
-- One look at what is to be done. Registers the tickets that the due accounts of each lane lack,
-- and returns {renew tickets, exchange tickets, follow-up ms, '1' to discover, ripe run, …}.
-- Follow-up: where nothing is due but a run is open, one delayed ticket keeps it going.
local now, name, per_ticket = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local most, lapse, longest = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local number = 0

local function top_up(lane, tickets)
  redis.call('ZREMRANGEBYSCORE', tickets, '-inf', now)
  local due = due_count(lane, now)
  local wanted = math.min(most, math.ceil(due / per_ticket))
  local missing = math.max(0, wanted - redis.call('ZCARD', tickets))
  for _ = 1, missing do
    number = number + 1
    redis.call('ZADD', tickets, now + lapse, name .. ':' .. number)
  end
  return due, missing
end

local function follow_up()
  local watch = redis.call('ZRANGE', RUNS, 0, 0, 'WITHSCORES')[2]
  if not watch then return 0 end
  local at = tonumber(watch)
  local renewal = redis.call('ZRANGE', DUE, 0, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')[2]
  local asked = redis.call('ZRANGE', DUE, '(0', '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, 1, 'WITHSCORES')[2]
  if renewal then at = math.min(at, tonumber(renewal)) end
  if asked then at = math.min(at, -tonumber(asked)) end
  local delay = math.ceil(math.max(100, math.min(at - now, longest)))
  local planned = tonumber(redis.call('GET', FOLLOW_UP))
  if planned and planned <= now + delay then return 0 end
  redis.call('SET', FOLLOW_UP, string.format('%.0f', now + delay), 'PX', delay)
  return delay
end

local renewals, renew = top_up('renew', RENEW_TICKETS)
local asked, exchange = top_up('exchange', EXCHANGE_TICKETS)
local delay = renewals + asked == 0 and follow_up() or 0

local discover, lease = '0', tonumber(ARGV[8])
if ARGV[7] == '1' then
  redis.call('HSET', FLEET, 'swept_at', now)
  local due_at = tonumber(redis.call('HGET', FLEET, 'discovery_due_at')) or 0
  if lease > 0 and due_at <= now then
    redis.call('HSET', FLEET, 'discovery_due_at', now + lease)
    discover = '1'
  end
end
return { renew, exchange, delay, discover, unpack(ripe_runs(now)) }
