-- ARGV: run, now, reason or '', account, …
-- Puts accounts into a run of waves, to be sent one by one; with a reason, as failed at once.
-- A repeat changes nothing.
local run, now, reason = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local key = RUN .. run
for i = 4, #ARGV do
  local account = ARGV[i]
  if redis.call('SADD', key .. ':listed', account) == 1 then
    if reason ~= '' then
      file_failed(run, reason, account)
    else
      file_under(run, 'open', account)
      redis.call('RPUSH', key .. ':todo', account)
    end
  end
end
redis.call('PEXPIRE', key .. ':listed', RUN_KEPT_MS)
redis.call('PEXPIRE', key .. ':todo', RUN_KEPT_MS)
watch_filling(run, now)
redis.call('ZADD', WAVES, now, run)
return 1
