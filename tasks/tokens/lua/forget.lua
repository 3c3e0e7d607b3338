-- ARGV: now, account, …   Drops all we hold of each; returns {how many were enrolled, run, …}.
local now = ARGV[1]
local dropped = 0
for i = 2, #ARGV do
  local account = ARGV[i]
  dropped = dropped + redis.call('ZREM', DUE, account)
  redis.call('ZREM', EXPIRY, account)
  redis.call('SREM', FAILING, account)
  redis.call('HDEL', CLAIMS, account)
  redis.call('SADD', FORGOTTEN, account)
  settle(account, now, 'forgotten')
  redis.call('DEL', TOKEN .. account, STATE .. account)
end
return { dropped, unpack(ended) }
