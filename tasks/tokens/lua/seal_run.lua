-- ARGV: run, now   Closes the run to further accounts; returns 1 if that ended it.
local run = ARGV[1]
redis.call('HSET', RUN .. run, 'filling', '0')
end_if_settled(run, ARGV[2])
return #ended
