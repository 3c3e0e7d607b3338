-- ARGV: run, now, '1' if further accounts follow once these have shown how long a token lives
-- Closes the run to further accounts; returns 1 if that ended it.
local run, key = ARGV[1], RUN .. ARGV[1]
local kept = redis.call('HMGET', key, 'deadline_at', 'ended_at')
if not kept[1] then return 0 end
redis.call('HSET', key, 'filling', '0')
if ARGV[3] == '1' then redis.call('HSET', key, 'learning', 'now') end
if not kept[2] then redis.call('ZADD', RUNS, 'XX', kept[1], run) end
end_if_settled(run, ARGV[2])
return (kept[2] or #ended > 0) and 1 or 0
