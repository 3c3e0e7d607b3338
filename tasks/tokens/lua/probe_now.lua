-- ARGV: now   Lets the next prober call at once. Returns the reason of the open circuit, or ''.
local now = tonumber(ARGV[1])
if not probe_due_in(now) then return '' end
redis.call('HSET', CIRCUIT, 'probe_at', now)
return redis.call('HGET', CIRCUIT, 'reason') or ''
