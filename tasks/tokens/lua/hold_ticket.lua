-- ARGV: ticket, lapses at   The ticket is being worked on until then.
return redis.call('ZADD', TICKETS, ARGV[2], ARGV[1])
