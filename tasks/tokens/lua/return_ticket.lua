-- ARGV: lane, ticket
return redis.call('ZREM', ARGV[1] == 'renew' and RENEW_TICKETS or EXCHANGE_TICKETS, ARGV[2])
