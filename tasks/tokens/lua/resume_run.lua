-- ARGV: run, now, lease ms, '1' if the broker delivers the step anew
-- Lets one delivery of an ended run's step go on; returns 0 for a copy of it.
local key = RUN .. ARGV[1]
local now = tonumber(ARGV[2])
local kept = redis.call('HMGET', key, 'continuation', 'resume_lease')
if not kept[1] then return 0 end
if ARGV[4] == '0' and kept[2] and tonumber(kept[2]) > now then return 0 end
redis.call('HSET', key, 'resume_lease', now + ARGV[3])
redis.call('ZADD', RUNS, now + ARGV[3], ARGV[1])
return 1
