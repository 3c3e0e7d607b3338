-- ARGV: µs, reason   Nobody calls until then; a longer pause stands.
local now = server_us()
local kept = instant_us(redis.call('HGET', LIMITER, 'paused_until'), now + LONGEST_PAUSE_US)
local until_us = now + tonumber(ARGV[1])
if until_us > kept then
  redis.call('HSET', LIMITER, 'paused_until', string.format('%.0f', until_us),
    'pause_reason', ARGV[2])
  redis.call('PEXPIRE', LIMITER, 2 * 3600 * 1000)
end
return 1
