-- ARGV: now, start of the listing, account, …
-- Notes that a complete listing lacks these accounts; what was imported or is not enrolled is
-- left alone. Returns those that an earlier complete listing lacked already.
local now, started_at = ARGV[1], tonumber(ARGV[2])
local gone = {}
for i = 3, #ARGV do
  local account = ARGV[i]
  if redis.call('ZSCORE', DUE, account)
      and redis.call('HEXISTS', STATE .. account, 'imported') == 0
      and redis.call('HSETNX', ABSENT, account, now) == 0 then
    local since = tonumber(redis.call('HGET', ABSENT, account))
    if not since then
      redis.call('HSET', ABSENT, account, now) -- garbage
    elseif since <= started_at then
      gone[#gone + 1] = account
    end
  end
end
return gone
