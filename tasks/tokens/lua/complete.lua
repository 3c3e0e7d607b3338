-- ARGV: now, then account, 'generation expires-at due-at fingerprint', sealed record or '', …
-- Settles each account whose claim is still ours; without a record the token that is there stays.
-- Returns {how many were ours, run, …}.
local now = tonumber(ARGV[1])
local stored = 0
for i = 2, #ARGV, 3 do
  local account, sealed, key = ARGV[i], ARGV[i + 2], STATE .. ARGV[i]
  local generation, ends_at, due_at, fingerprint =
    string.match(ARGV[i + 1], '^(%d+) (%d+) (%d+) (.*)$')
  local expires_at = tonumber(ends_at)
  if claimed_score(account, generation) then
    stored = stored + 1
    redis.call('HDEL', CLAIMS, account)
    redis.call('ZADD', DUE, 'XX', due_at, account)
    leave_quarantine(account, now)
    local attempt = redis.call('SREM', FAILING, account) == 1 and 'retry' or 'first'
    if redis.call('HDEL', key, 'is_recovering') == 1 then
      emit('account.recovered', 'account', account)
    end
    if sealed == '' then
      measure('renewal', 'unchanged', attempt)
      note_attempt(account, now, 'unchanged')
    else
      local covered_until = tonumber(redis.call('ZSCORE', EXPIRY, account)) or now
      count_gap(covered_until, now)
      count(covered_until < 0 and 'exchanged' or 'renewed', 1)
      measure(covered_until < 0 and 'exchange' or 'renewal', 'ok', attempt)
      if expires_at > now then redis.call('SET', TOKEN .. account, sealed, 'PX', expires_at - now) end
      redis.call('ZADD', EXPIRY, math.max(expires_at, now), account)
      redis.call('HSET', key, 'generation', generation, 'fingerprint', fingerprint)
      note_attempt(account, now, 'exchanged')
    end
    if attempt == 'retry' then
      redis.call('HDEL', key, 'attempts', 'repeats', 'is_final', 'expires_at')
    end
    settle(account, now, nil)
  end
end
if counted.exchanged or counted.renewed then
  emit('tokens.renewed', 'exchanged', counted.exchanged or 0, 'renewed', counted.renewed or 0)
end
write_counts()
return { stored, unpack(ended) }
