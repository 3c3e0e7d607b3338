-- ARGV: until when   A discovery is under way: no other one is sent before.
redis.call('HSET', FLEET, 'discovery_due_at', ARGV[1])
return 1
