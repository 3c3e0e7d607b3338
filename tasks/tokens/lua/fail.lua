-- ARGV: now, then account, generation, due at, reason, repeats, '1' if the account is to blame,
-- '1' if it is to be quarantined, …
-- Schedules the next attempt of each account whose claim is still ours; the old token stays.
-- Returns {how many were ours, run, …}.
local now = tonumber(ARGV[1])
local failed = 0
for i = 2, #ARGV, 7 do
  local account, due_at, reason = ARGV[i], tonumber(ARGV[i + 2]), ARGV[i + 3]
  local key = STATE .. account
  local score = claimed_score(account, ARGV[i + 1])
  if score then
    failed = failed + 1
    redis.call('HDEL', CLAIMS, account)
    redis.call('ZADD', DUE, 'XX', in_lane_of(score, due_at), account)
    local attempt = redis.call('SADD', FAILING, account) == 1 and 'first' or 'retry'
    local had_token = redis.call('HEXISTS', key, 'generation') == 1
    measure(had_token and 'renewal' or 'exchange', ARGV[i + 5] == '1' and 'refused' or 'failed', attempt)
    add(key, 'attempts', 1)
    redis.call('HSET', key, 'repeats', ARGV[i + 4], 'is_final', ARGV[i + 5])
    local history = history_with(reason, now, redis.call('HGET', key, 'history'))
    redis.call('HSET', key, 'history', history)
    if ARGV[i + 6] == '1' and enter_quarantine(account, now) then
      emit('account.quarantined', 'account', account, 'reason', reason)
    end
    if ARGV[i + 5] == '1' then settle({ account }, now, reason) end
  end
end
count('failed', failed)
write_counts()
return { failed, unpack(ended) }
