-- ARGV: now   Ends runs that are past their deadline; returns the runs that may be released.
local now = tonumber(ARGV[1])
local ripe = {}
for _, run in ipairs(redis.call('ZRANGE', RUNS, '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)) do
  if redis.call('EXISTS', RUN .. run) == 0 then
    redis.call('ZREM', RUNS, run)
  else
    redis.call('HSETNX', RUN .. run, 'ended_at', now)
    ripe[#ripe + 1] = run
  end
end
return ripe
