-- ARGV: lane, ticket, lapses at, '1' if it is held already
-- The ticket is being worked on until then. One that was given back meanwhile stays so.
local tickets = ARGV[1] == 'renew' and RENEW_TICKETS or EXCHANGE_TICKETS
if ARGV[4] == '1' then return redis.call('ZADD', tickets, 'XX', ARGV[3], ARGV[2]) end
return redis.call('ZADD', tickets, ARGV[3], ARGV[2])
