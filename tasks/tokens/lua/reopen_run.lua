-- ARGV: run, now
-- Takes up again a run that was closed for now, if its deadline allows; once.
local key, now = RUN .. ARGV[1], tonumber(ARGV[2])
local kept = redis.call('HMGET', key, 'learning', 'deadline_at')
if kept[1] ~= 'now' then return 0 end
redis.call('HSET', key, 'learning', 'done')
if tonumber(kept[2]) <= now then return 0 end
redis.call('HDEL', key, 'ended_at', 'resume_lease', 'release_lease')
redis.call('HSET', key, 'filling', '1')
redis.call('ZADD', RUNS, kept[2], ARGV[1])
watch_filling(ARGV[1], now)
return 1
