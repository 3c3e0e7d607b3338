-- ARGV: run, now, deadline, continuation
-- Opens the run unless it is known; returns 'opened', 'filling', 'open' or 'ended'.
local run, now, deadline = ARGV[1], ARGV[2], ARGV[3]
local key = RUN .. run
if redis.call('HEXISTS', key, 'ended_at') == 1 then return 'ended' end
local filling = redis.call('HGET', key, 'filling')
if filling then return filling == '1' and 'filling' or 'open' end
redis.call('HSET', key, 'filling', '1', 'opened_at', now, 'deadline_at', deadline,
  'continuation', ARGV[4])
redis.call('PEXPIRE', key, RUN_KEPT_MS)
redis.call('ZADD', RUNS, deadline, run)
watch_filling(run, tonumber(now))
return 'opened'
