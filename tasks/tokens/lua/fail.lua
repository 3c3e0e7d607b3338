-- ARGV: now, then account, generation, due at, reason, '1' if its runs should not wait, …
-- Schedules the next attempt of each account whose claim is still ours; the old token stays.
-- Returns {how many were ours, run, …}.
local now = tonumber(ARGV[1])
local failed = 0
for i = 2, #ARGV, 5 do
  local account, due_at, reason = ARGV[i], ARGV[i + 2], ARGV[i + 3]
  if claimed_score(account, ARGV[i + 1]) then
    failed = failed + 1
    redis.call('HDEL', CLAIMS, account)
    redis.call('ZADD', DUE, 'XX', due_at, account)
    redis.call('SADD', FAILING, account)
    redis.call('HINCRBY', STATE .. account, 'attempts', 1)
    redis.call('HSET', STATE .. account, 'outcome', reason, 'outcome_at', now)
    if ARGV[i + 4] == '1' then settle(account, now, reason) end
  end
end
return { failed, unpack(ended) }
