-- ARGV: µs, reason, now where the partner's credential is refused, else ''
-- Nobody calls until then; a longer pause stands.
local kept = tonumber(redis.call('HGET', LIMITER, 'paused_until')) or 0
local until_us = math.max(kept, server_us() + tonumber(ARGV[1]))
redis.call('HSET', LIMITER, 'paused_until', string.format('%.0f', until_us),
  'pause_reason', ARGV[2])
redis.call('PEXPIRE', LIMITER, 2 * 3600 * 1000)
if ARGV[3] ~= '' and redis.call('HSETNX', FLEET, 'suspended_at', ARGV[3]) == 1 then
  emit('partner.suspended', 'reason', ARGV[2])
end
return 1
