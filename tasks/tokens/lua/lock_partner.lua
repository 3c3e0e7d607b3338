-- ARGV: owner, lease ms   Returns a generation for the new partner token, or '' if it is locked.
if redis.call('PTTL', PARTNER_LOCK) == -1 then redis.call('DEL', PARTNER_LOCK) end -- nobody's
if redis.call('SET', PARTNER_LOCK, ARGV[1], 'NX', 'PX', ARGV[2]) then return next_generation() end
return ''
