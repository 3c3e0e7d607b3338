-- ARGV: now, then account, 'generation expires-at due-at fingerprint', sealed record or '', …
-- Settles each account whose claim is still ours; without a record the token that is there stays.
-- What is asked of all, and told of all, is so by one command each. Last of all the claims go: if
-- this breaks off before, their leases bring the accounts back.
-- Returns {how many were ours, run, …}.
local now = tonumber(ARGV[1])
local accounts = {}
for i = 2, #ARGV, 3 do accounts[#accounts + 1] = ARGV[i] end
if #accounts == 0 then return { 0 } end

local claims = redis.call('HMGET', CLAIMS, unpack(accounts))
local covered = redis.call('ZMSCORE', EXPIRY, unpack(accounts))
local has_failing = redis.call('EXISTS', FAILING) == 1
local has_quarantined = redis.call('EXISTS', QUARANTINE) == 1
local ours, due, expiries = {}, {}, {}

local function keep(account, sealed, expires_at, covered_until, attempt)
  count_gap(covered_until, now)
  count(covered_until < 0 and 'exchanged' or 'renewed', 1)
  measure(covered_until < 0 and 'exchange' or 'renewal', 'ok', attempt)
  if expires_at > now then redis.call('SET', TOKEN .. account, sealed, 'PX', expires_at - now) end
  expiries[#expiries + 1], expiries[#expiries + 2] = math.max(expires_at, now), account
end

for i, account in ipairs(accounts) do
  local key, sealed = STATE .. account, ARGV[3 * i + 1]
  local generation, expires_at, due_at, fingerprint =
    string.match(ARGV[3 * i], '^(%d+) (%d+) (%d+) (.*)$')
  if score_before(claims[i], generation) then
    ours[#ours + 1] = account
    due[#due + 1], due[#due + 2] = due_at, account
    if has_quarantined then leave_quarantine(account, now) end
    local is_retry = has_failing and redis.call('SREM', FAILING, account) == 1
    local attempt = is_retry and 'retry' or 'first'
    local kept = redis.call('HMGET', key, 'is_recovering', 'history')
    if kept[1] then
      emit('account.recovered', 'account', account)
      redis.call('HDEL', key, 'is_recovering')
    end
    if sealed == '' then
      measure('renewal', 'unchanged', attempt)
      redis.call('HSET', key, 'history', history_with('unchanged', now, kept[2]))
    else
      local covered_until = tonumber(covered[i] or redis.call('ZSCORE', EXPIRY, account)) or now
      keep(account, sealed, tonumber(expires_at), covered_until, attempt)
      redis.call('HSET', key, 'generation', generation, 'fingerprint', fingerprint,
        'history', history_with('exchanged', now, kept[2]))
    end
    if is_retry then redis.call('HDEL', key, 'attempts', 'repeats', 'is_final', 'expires_at') end
  end
end
settle(ours, now, nil)
if #expiries > 0 then redis.call('ZADD', EXPIRY, unpack(expiries)) end
if #ours > 0 then
  redis.call('ZADD', DUE, 'XX', unpack(due))
  redis.call('HDEL', CLAIMS, unpack(ours))
end
if counted.exchanged or counted.renewed then
  emit('tokens.renewed', 'exchanged', counted.exchanged or 0, 'renewed', counted.renewed or 0)
end
write_counts()
return { #ours, unpack(ended) }
