-- ARGV: run, account, …   These are with the broker; they are not sent again.
return redis.call('ZREM', RUN .. ARGV[1] .. ':sending', unpack(ARGV, 2))
