-- ARGV: µs, reason   Nobody calls until then; a longer pause stands.
local kept = tonumber(redis.call('HGET', LIMITER, 'paused_until')) or 0
local until_us = math.max(kept, server_us() + tonumber(ARGV[1]))
redis.call('HSET', LIMITER, 'paused_until', string.format('%.0f', until_us),
  'pause_reason', ARGV[2])
redis.call('PEXPIRE', LIMITER, 2 * 3600 * 1000)
return 1
