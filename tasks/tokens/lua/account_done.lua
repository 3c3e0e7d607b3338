-- ARGV: run, now, account, reason or ''
-- One account of a run of waves is done, or has failed. Returns {'1' if a wave may follow, run, …}.
local run, now, account, reason = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local key = RUN .. run
if redis.call('HEXISTS', key, 'ended_at') == 0 and redis.call('SREM', key .. ':open', account) == 1 then
  redis.call('ZREM', key .. ':sending', account)
  if reason ~= '' then file_failed(run, reason, account) else file_under(run, 'done', account) end
  end_if_settled(run, now)
end
return { redis.call('LLEN', key .. ':todo') > 0 and '1' or '0', unpack(ended) }
