-- ARGV: ticket
return redis.call('ZREM', TICKETS, ARGV[1])
