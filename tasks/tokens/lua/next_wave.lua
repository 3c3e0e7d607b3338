-- ARGV: run, now, lease ms, how many at most, '1' to go on with a wave that was begun
-- Takes accounts of the next wave, leased until they are confirmed as sent; those whose lease has
-- lapsed come first. No wave is begun until half of the one before is done.
-- Returns {the message to send for each, account, …}.
local run, now, lease, wanted = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local key = RUN .. run
local kept = redis.call('HMGET', key, 'message', 'at_once', 'ended_at')
if not kept[1] or kept[3] then
  redis.call('ZREM', WAVES, run)
  return { '' }
end
local most = tonumber(kept[2])
local taken = redis.call('ZRANGE', key .. ':sending', '-inf', now, 'BYSCORE', 'LIMIT', 0, wanted)
local waiting = redis.call('LLEN', key .. ':todo')
local in_flight = redis.call('SCARD', key .. ':open') - waiting
if in_flight <= most / 2 or ARGV[5] == '1' then
  for _ = 1, math.min(most - in_flight, waiting, wanted - #taken) do
    taken[#taken + 1] = redis.call('LPOP', key .. ':todo')
  end
end
for _, account in ipairs(taken) do redis.call('ZADD', key .. ':sending', now + lease, account) end
redis.call('PEXPIRE', key .. ':sending', RUN_KEPT_MS)
redis.call('ZADD', WAVES, now + lease, run)
return { kept[1], unpack(taken) }
