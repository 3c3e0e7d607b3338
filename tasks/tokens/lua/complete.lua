-- ARGV: now, then account, generation, sealed record, expires at, renew at, …
-- Stores each token whose claim is still ours. Returns {how many were stored, run, …}.
local now = tonumber(ARGV[1])
local stored = 0
for i = 2, #ARGV, 5 do
  local account, generation, expires_at = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 3])
  if claimed_score(account, generation) then
    stored = stored + 1
    redis.call('HDEL', CLAIMS, account)
    if expires_at > now then
      redis.call('SET', TOKEN .. account, ARGV[i + 2], 'PX', expires_at - now)
    end
    redis.call('ZADD', EXPIRY, expires_at, account)
    redis.call('ZADD', DUE, 'XX', ARGV[i + 4], account)
    redis.call('HSET', STATE .. account, 'generation', generation, 'attempts', 0,
      'outcome', 'exchanged', 'outcome_at', now)
    redis.call('SREM', FAILING, account)
    settle(account, now, nil)
  end
end
return { stored, unpack(ended) }
