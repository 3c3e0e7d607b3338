-- ARGV: ended at, next due at or '', listed, accounts held back
-- A listing has come to its end.
redis.call('HSET', FLEET, 'discovered_at', ARGV[1], 'listed', ARGV[3], 'held_back', ARGV[4])
if ARGV[2] ~= '' then redis.call('HSET', FLEET, 'discovery_due_at', ARGV[2]) end
return 1
