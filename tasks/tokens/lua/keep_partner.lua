-- ARGV: owner, sealed record or '', lifetime ms   Only the lock's owner writes, and unlocks.
if redis.call('GET', PARTNER_LOCK) ~= ARGV[1] then return 0 end
if ARGV[2] ~= '' then redis.call('SET', PARTNER, ARGV[2], 'PX', ARGV[3]) end
redis.call('DEL', PARTNER_LOCK)
return 1
