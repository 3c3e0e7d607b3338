-- ARGV: owner, lease ms, generation of the partner token that was refused or 0
-- Returns a generation for the new partner token, or '' if it is locked.
local refused = tonumber(ARGV[3])
if refused > refused_partner_token() then redis.call('HSET', FLEET, 'partner_refused', ARGV[3]) end
if redis.call('PTTL', PARTNER_LOCK) == -1 then redis.call('DEL', PARTNER_LOCK) end -- nobody's
if redis.call('SET', PARTNER_LOCK, ARGV[1], 'NX', 'PX', ARGV[2]) then return next_generation() end
return ''
