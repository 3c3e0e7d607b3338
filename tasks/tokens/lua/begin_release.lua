-- ARGV: run, now, lease ms
-- Leases the release of a run that has ended, or whose filling has come to a halt. Returns its
-- continuation, or '' where there is none to publish or somebody else is about to.
local run, now, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local key = RUN .. run
local kept =
  redis.call('HMGET', key, 'ended_at', 'continuation', 'release_lease', 'filling', 'deadline_at')
if not kept[1] and kept[4] ~= '1' then return '' end
if kept[3] and tonumber(kept[3]) > now then return '' end
if not kept[2] or kept[2] == '' then
  if kept[1] then redis.call('ZREM', RUNS, run) else redis.call('ZADD', RUNS, kept[5], run) end
  return ''
end
redis.call('HSET', key, 'release_lease', now + lease)
redis.call('ZADD', RUNS, now + lease, run)
return kept[2]
