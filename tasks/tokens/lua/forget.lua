-- ARGV: now, 'forgotten' or 'gone', account, …
-- Drops all we hold of each. Those that are gone may be discovered again; what was imported is
-- never gone. Returns {how many were enrolled, run, …}.
local now, reason = tonumber(ARGV[1]), ARGV[2]
local dropped = 0
for i = 3, #ARGV do
  local account = ARGV[i]
  local is_imported = redis.call('HEXISTS', STATE .. account, 'imported') == 1
  if reason == 'forgotten' or not is_imported then
    dropped = dropped + redis.call('ZREM', DUE, account)
    leave_quarantine(account, now)
    local covered_until = tonumber(redis.call('ZSCORE', EXPIRY, account))
    if covered_until then count_gap(covered_until, now) end
    redis.call('ZREM', EXPIRY, account)
    redis.call('SREM', FAILING, account)
    redis.call('HDEL', CLAIMS, account)
    redis.call('HDEL', ABSENT, account)
    if reason == 'forgotten' then redis.call('SADD', FORGOTTEN, account) end
    settle({ account }, now, reason)
    redis.call('DEL', TOKEN .. account, STATE .. account)
  end
end
write_counts()
return { dropped, unpack(ended) }
