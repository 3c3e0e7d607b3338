-- ARGV: now, accounts per ticket, lapse ms, longest follow-up ms, ticket, …
-- Registers as many of the offered tickets as the due accounts lack. Returns {how many,
-- follow-up ms}: where nothing is due but a run is open, one delayed ticket keeps it going.
local now, per_ticket, lapse = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local offered = #ARGV - 4
redis.call('ZREMRANGEBYSCORE', TICKETS, '-inf', now)
local due = redis.call('ZCOUNT', DUE, '-inf', now)
local missing = math.min(offered, math.ceil(due / per_ticket)) - redis.call('ZCARD', TICKETS)
for i = 1, missing do redis.call('ZADD', TICKETS, now + lapse, ARGV[4 + i]) end
if due > 0 then return { math.max(missing, 0), 0 } end

local watch = redis.call('ZRANGE', RUNS, 0, 0, 'WITHSCORES')[2]
if not watch then return { 0, 0 } end
local next_due = redis.call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2] or watch
local delay = math.min(tonumber(watch), tonumber(next_due)) - now
delay = math.max(100, math.min(delay, tonumber(ARGV[4])))
local planned = tonumber(redis.call('GET', FOLLOW_UP))
if planned and planned <= now + delay then return { 0, 0 } end
redis.call('SET', FOLLOW_UP, string.format('%.0f', now + delay), 'PX', math.ceil(delay))
return { 0, math.ceil(delay) }
