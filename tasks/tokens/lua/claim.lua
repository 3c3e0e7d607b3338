-- ARGV: now, lease ms, want, lane, holder, rate, burst
-- Takes permits for a call each, then as many due accounts of the lane, leased until now + lease.
-- Renewals go by the earliest expiry; what was asked for, by the longest wait.
-- While the circuit is open returns {'open', 0, 0, wait µs}, or, to who may probe now,
-- {'probe', 0, 0, 0, blame}. Else returns {generation, first µs, spacing µs, wait µs, generation of
-- the partner token that was refused, then for each account
-- {account, covered until, attempts, repeats, history, fingerprint, expiry when quarantined}}.
local now, lease, want, lane = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local holder, rate, burst = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local WALKED = 2000 -- rows at most

-- In a backlog, who expires first is found by the index by expiry; it also lists who is claimed
-- or backing off, so that the search is bounded, and what it misses is taken as it became due.
local function earliest_of_backlog(due)
  local chosen, is_chosen = {}, {}
  local function choose(account)
    if #chosen < want and not is_chosen[account] then
      chosen[#chosen + 1], is_chosen[account] = account, true
    end
  end
  local page = math.max(100, math.min(want, 500))
  for first = 0, WALKED - page, page do
    local accounts = redis.call('ZRANGE', EXPIRY, 0, '+inf', 'BYSCORE', 'LIMIT', first, page)
    if #accounts == 0 or #chosen == want then break end
    local scores = redis.call('ZMSCORE', DUE, unpack(accounts))
    for i, account in ipairs(accounts) do
      local score = tonumber(scores[i])
      if score and score >= 0 and score <= now then choose(account) end
    end
  end
  for _, account in ipairs(due) do choose(account) end
  return chosen
end

local function by_expiry(due)
  if #due < 2 then return due end
  if #due > want then return earliest_of_backlog(due) end
  local expiries, expiry_of = redis.call('ZMSCORE', EXPIRY, unpack(due)), {}
  for i, account in ipairs(due) do expiry_of[account] = tonumber(expiries[i]) or now end
  table.sort(due, function(a, b)
    if expiry_of[a] ~= expiry_of[b] then return expiry_of[a] < expiry_of[b] end
    return a < b
  end)
  return due
end

-- Where no hash is, it is dropped: one account's garbage must not keep the others from their turn.
local function known(account)
  local command = { 'HMGET', STATE .. account,
    'attempts', 'repeats', 'history', 'fingerprint', 'expires_at' }
  local kept = redis.pcall(unpack(command))
  if not kept.err then return kept end
  redis.call('DEL', STATE .. account)
  return redis.call(unpack(command))
end

local function knock()
  local probe_in = probe_due_in(now)
  if not probe_in then return nil end
  local now_us = server_us()
  local pause = instant_us(redis.call('HGET', LIMITER, 'paused_until'), now_us + LONGEST_PAUSE_US) - now_us
  local wait = math.max(probe_in * 1000, pause)
  if wait > 0 then return { 'open', 0, 0, math.ceil(wait) } end
  redis.call('HSET', CIRCUIT, 'probe_at', now + PROBER_LEASE_MS, 'prober', holder)
  return { 'probe', 0, 0, 0, redis.call('HGET', CIRCUIT, 'blame') }
end

local turned_away = knock()
if turned_away then return turned_away end
local due = due_accounts(lane, now, lane == 'renew' and want + 1 or want)
local refused = refused_partner_token()
if #due == 0 then return { '0', 0, 0, 0, refused } end
local granted, first, spacing, wait = reserve(lane, now, rate, burst, math.min(want, #due))
if granted == 0 then return { '0', 0, 0, wait, refused } end
if lane == 'renew' then due = by_expiry(due) end

local generation = next_generation()
local claim = { generation, first, spacing, 0, refused }
local scores = redis.call('ZMSCORE', DUE, unpack(due, 1, granted))
local expiries = redis.call('ZMSCORE', EXPIRY, unpack(due, 1, granted))
local claims, leased = {}, {}
for i = 1, granted do
  local account, score, at = due[i], scores[i], 2 * i - 1
  claims[at], claims[at + 1] = account, generation .. ' ' .. score .. ' ' .. holder
  leased[at], leased[at + 1] = in_lane_of(score, now + lease), account
  claim[#claim + 1] = { account, expiries[i], unpack(known(account)) }
end
redis.call('HSET', CLAIMS, unpack(claims))
redis.call('ZADD', DUE, 'XX', unpack(leased))
return claim
