-- ARGV: run, now, account, reason or ''
-- One account of a run of waves is done, or has failed. Returns {'1' if a wave may follow, run, …}.
local run, account, reason = ARGV[1], ARGV[3], ARGV[4]
redis.call('ZREM', RUN .. run .. ':sending', account)
settle_in(run, { account }, tonumber(ARGV[2]), reason ~= '' and reason or nil)
return { redis.call('LLEN', RUN .. run .. ':todo') > 0 and '1' or '0', unpack(ended) }
