-- Stands before every script: names the keys (see keys.py) and what several scripts do.
local DUE, EXPIRY, CLAIMS, GENERATION, LIMITER = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local RUNS, RENEW_TICKETS, EXCHANGE_TICKETS, FOLLOW_UP = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local FORGOTTEN, ABSENT, FAILING, QUARANTINE, FLEET = KEYS[10], KEYS[11], KEYS[12], KEYS[13], KEYS[14]
local REJECTIONS, EVENTS, WAVES, PARTNER, PARTNER_LOCK = KEYS[15], KEYS[16], KEYS[17], KEYS[18], KEYS[19]
local WORKERS, CIRCUIT, EPOCH, METRICS, HISTORY = KEYS[20], KEYS[21], KEYS[22], KEYS[23], KEYS[24]
local BEATS, WAITING = KEYS[25], KEYS[26]
local TOKEN, STATE, RUN = KEYS[27], KEYS[28], KEYS[29] -- prefixes; an id follows

local RUN_KEPT_MS = 48 * 3600 * 1000
-- A longer value makes Redis unpack an account's hash, for good: it is then three times as large.
local HISTORY_BYTES = 64
local HORIZON_US, YIELDING_HORIZON_US, URGENT_HORIZON_US = 250000, 100000, 350000
local LONGEST_PAUSE_US = 2 * 3600 * 1000000
local FILL_LEASE_MS = 5000
local EVENTS_KEPT = 10000
local REJECTED_AGAIN_MS, REJECTIONS_WINDOW_MS, REJECTIONS_SHARE = 60000, 3600000, 0.05
local SHARE = 0.8 -- of the rate, for a lane while the other has work too
local PROBE_AFTER_MS = { upstream = 1000, credential = 5000, us = 5000 } -- doubled each time
local LONGEST_PROBE_AFTER_MS, LONGEST_PROBE_WAIT_MS, PROBER_LEASE_MS = 60000, 3600000, 15000

local function server_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Generations never rewind, not even when Redis comes back without its last seconds.
local function next_generation()
  local last = tonumber(redis.call('GET', GENERATION)) or 0
  if not (last < 2 ^ 53) then last = 0 end -- no number that was given out here
  local generation = string.format('%.0f', math.max(last + 1, server_us()))
  redis.call('SET', GENERATION, generation)
  return generation
end

-- Generation of the newest partner token that got a 401: nobody is to call with it, nor an older.
local function refused_partner_token()
  local refused = tonumber(redis.call('HGET', FLEET, 'partner_refused')) or 0
  local last = tonumber(redis.call('GET', GENERATION)) or 0
  return refused <= last and refused or 0 -- else garbage, for which no token would be new enough
end

-- A due score's sign is its lane: above zero a renewal, below zero what somebody asked for.
-- Its magnitude is the instant from which it is due.
local function in_lane_of(score, instant)
  if tonumber(score) < 0 then return -instant end
  return instant
end

local function due_accounts(lane, now, most)
  if lane == 'renew' then
    return redis.call('ZRANGE', DUE, 0, now, 'BYSCORE', 'LIMIT', 0, most)
  end
  return redis.call('ZRANGE', DUE, '(0', -now, 'BYSCORE', 'REV', 'LIMIT', 0, most)
end

local function due_count(lane, now)
  if lane == 'renew' then return redis.call('ZCOUNT', DUE, 0, now) end
  return redis.call('ZCOUNT', DUE, -now, '(0')
end

-- The due score from before the claim if it is that `generation`'s, else nil.
local function score_before(claim, generation)
  if not claim then return nil end
  local holder, score = string.match(claim, '^(%d+) (%S+)')
  if holder == generation then return score end
  return nil
end

local function claimed_score(account, generation)
  return score_before(redis.call('HGET', CLAIMS, account), generation)
end

local counted, measured = {}, {} -- what this script adds to the fleet's totals, and to its metrics

local function count(total, by) counted[total] = (counted[total] or 0) + by end

local function measure(...)
  local name = table.concat({ ... }, ':')
  measured[name] = (measured[name] or 0) + 1
end

-- What stands there instead of a number is overwritten.
local function add(key, field, by)
  local answer = redis.pcall('HINCRBY', key, field, string.format('%.0f', by))
  if type(answer) == 'table' then redis.call('HSET', key, field, string.format('%.0f', by)) end
end

local function write_counts()
  for total, by in pairs(counted) do add(FLEET, total, by) end
  for name, by in pairs(measured) do add(METRICS, name, by) end
end

local function emit(event, ...)
  redis.call('XADD', EVENTS, 'MAXLEN', '~', EVENTS_KEPT, '*', 'event', event, ...)
end

-- While the circuit is open, nobody calls but one prober at a time. Returns how long until the
-- next may, below zero if it is due; nil while the circuit is closed.
local function probe_due_in(now)
  local kept = redis.call('HMGET', CIRCUIT, 'blame', 'probe_at')
  if not kept[1] and not kept[2] then return nil end
  local probe_in = (tonumber(kept[2]) or math.huge) - now
  if PROBE_AFTER_MS[kept[1]] and probe_in <= LONGEST_PROBE_WAIT_MS then return probe_in end
  redis.call('DEL', CIRCUIT) -- garbage
end

-- A credential that is refused stays so while the upstream is down, too. Returns 1 if this is new.
local function open_circuit(blame, reason, now, wait)
  local before = probe_due_in(now) and redis.call('HGET', CIRCUIT, 'blame')
  if before and before ~= 'upstream' then blame = before end
  add(CIRCUIT, 'trips', 1)
  local trips = tonumber(redis.call('HGET', CIRCUIT, 'trips'))
  local backed_off = PROBE_AFTER_MS[blame] * 2 ^ math.max(0, math.min(trips - 1, 16))
  local probe_at = now + math.max(math.min(backed_off, LONGEST_PROBE_AFTER_MS), wait)
  redis.call('HSET', CIRCUIT, 'blame', blame, 'reason', reason, 'probe_at',
    string.format('%.0f', probe_at))
  redis.call('HDEL', CIRCUIT, 'prober')
  redis.call('HSETNX', CIRCUIT, 'opened_at', now)
  if before == blame then return 0 end
  emit(blame == 'upstream' and 'upstream.failing' or 'partner.suspended', 'reason', reason)
  return 1
end

-- The index by expiry says until when an account is covered; below zero: never was, since then.
local function count_gap(covered_until, now)
  if covered_until < 0 then
    count('onboarding_ms', now + covered_until)
  elseif covered_until < now then
    count('uncovered_ms', now - covered_until)
    count('lapses', 1)
  end
end

-- Quarantined accounts stand in an index of their own: they must neither hide the harm done to
-- the others nor stand before them where the earliest expiry goes first.
local function enter_quarantine(account, now)
  local covered_until = tonumber(redis.call('ZSCORE', EXPIRY, account))
  if not covered_until then return end
  count_gap(covered_until, now)
  redis.call('ZREM', EXPIRY, account)
  redis.call('ZADD', QUARANTINE, math.max(covered_until, now), account)
  redis.call('HSET', STATE .. account, 'quarantined_at', now, 'expires_at', covered_until)
  return true
end

local function leave_quarantine(account, now)
  local covered_until = tonumber(redis.call('ZSCORE', QUARANTINE, account))
  if not covered_until then return end
  if covered_until < now then count('quarantined_ms', now - covered_until) end
  covered_until = math.max(covered_until, now)
  if redis.call('HEXISTS', STATE .. account, 'generation') == 0 then covered_until = -now end
  redis.call('ZREM', QUARANTINE, account)
  redis.call('ZADD', EXPIRY, covered_until, account)
  redis.call('HDEL', STATE .. account, 'quarantined_at')
  redis.call('HSET', STATE .. account, 'is_recovering', '1')
end

-- An account's history with one more attempt before those that there is room for.
local function history_with(outcome, now, kept)
  local history = string.format('%.0f', now) .. ':' .. outcome
  for earlier in string.gmatch(kept or '', '%S+') do
    if #history + 1 + #earlier > HISTORY_BYTES then break end
    history = history .. ' ' .. earlier
  end
  return history
end

local ended = {} -- runs that this script has ended

-- The run is known to be sealed.
local function end_if_settled(run, now)
  local key = RUN .. run
  if redis.call('EXISTS', key .. ':open') == 1 then return end
  if redis.call('HSETNX', key, 'ended_at', now) == 1 then
    redis.call('ZADD', RUNS, now, run)
    ended[#ended + 1] = run
  end
end

local is_kept_for_long = {} -- by the keys of runs' sets

local function file_under(run, part, ...)
  local key = RUN .. run .. ':' .. part
  if redis.call('SADD', key, ...) > 0 and not is_kept_for_long[key] then
    if redis.call('PTTL', key) < 0 then redis.call('PEXPIRE', key, RUN_KEPT_MS) end
    is_kept_for_long[key] = true
  end
end

local function file_failed(run, reason, account)
  file_under(run, 'failed:' .. reason, account)
  file_under(run, 'reasons', reason)
end

local state_of = {} -- by run, 'over', 'filling' or 'sealed': looked up once for all its accounts

local function state_of_run(run)
  if not state_of[run] then
    local kept = redis.call('HMGET', RUN .. run, 'ended_at', 'filling')
    local is_over = kept[1] or not kept[2]
    state_of[run] = is_over and 'over' or kept[2] == '0' and 'sealed' or 'filling'
  end
  return state_of[run]
end

-- These accounts of the run are done, or have failed for that reason.
local function settle_in(run, accounts, now, reason)
  local state, open = state_of_run(run), RUN .. run .. ':open'
  if state == 'over' then return end
  local settled, is_open = {}, redis.call('SMISMEMBER', open, unpack(accounts))
  for i, account in ipairs(accounts) do
    if is_open[i] == 1 then settled[#settled + 1] = account end
  end
  if #settled == 0 then return end
  redis.call('SREM', open, unpack(settled))
  file_under(run, reason and 'failed:' .. reason or 'done', unpack(settled))
  if reason then file_under(run, 'reasons', reason) end
  if state == 'sealed' then end_if_settled(run, now) end
end

-- Tell every run that waits for one of the accounts; `reason` is nil where they got their token.
local function settle(accounts, now, reason)
  if #accounts == 0 then return end
  local waiting, accounts_of = redis.call('HMGET', WAITING, unpack(accounts)), {}
  for i, account in ipairs(accounts) do
    for run in string.gmatch(waiting[i] or '', '%S+') do
      accounts_of[run] = accounts_of[run] or {}
      table.insert(accounts_of[run], account)
    end
  end
  for run, its_accounts in pairs(accounts_of) do settle_in(run, its_accounts, now, reason) end
  redis.call('HDEL', WAITING, unpack(accounts))
end

-- While accounts are being attached, the run is looked at soon: whoever attaches may be killed.
local function watch_filling(run, now)
  local kept = redis.call('HMGET', RUN .. run, 'filling', 'deadline_at')
  if kept[1] == '1' then
    redis.call('ZADD', RUNS, 'XX', math.min(tonumber(kept[2]), now + FILL_LEASE_MS), run)
  end
end

-- Ends runs that are past their deadline; returns the runs whose step is to be sent: those that
-- have ended, and those whose filling has come to a halt.
local function ripe_runs(now)
  local ripe = {}
  for _, run in ipairs(redis.call('ZRANGE', RUNS, '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)) do
    local kept = redis.pcall('HMGET', RUN .. run, 'filling', 'deadline_at')
    if not tonumber(kept[2]) then
      redis.call('ZREM', RUNS, run)
    else
      ripe[#ripe + 1] = run
      if kept[1] ~= '1' or tonumber(kept[2]) <= now then
        redis.call('HSETNX', RUN .. run, 'ended_at', now)
      end
    end
  end
  return ripe
end

-- A report that Dintero refused the token of that generation. The account is due at once, if that
-- is still its token, no more than once a minute; the token stays until another replaces it. Where
-- more than a twentieth of the fleet is rejected within an hour, the fault is not the tokens'.
local function judge_rejection(account, generation, now)
  local kept = redis.pcall('HMGET', STATE .. account, 'generation', 'rejected_at', 'attempts')
  if kept.err or kept[1] ~= generation then return 'late' end
  if math.abs(now - (tonumber(kept[2]) or 0)) < REJECTED_AGAIN_MS then return 'known' end
  local since = tonumber(redis.call('HGET', FLEET, 'rejections_since')) or 0
  if math.abs(now - since) >= REJECTIONS_WINDOW_MS then
    redis.call('HSET', FLEET, 'rejections_since', now, 'rejections', 0)
  end
  local most = math.max(3, math.floor(redis.call('ZCARD', DUE) * REJECTIONS_SHARE))
  local counted_so_far = tonumber(redis.call('HGET', FLEET, 'rejections')) or 0
  if counted_so_far >= most then return 'held back' end
  redis.call('HSET', FLEET, 'rejections', counted_so_far + 1)
  redis.call('HSET', STATE .. account, 'rejected_at', now)
  if not kept[3] and redis.call('HEXISTS', CLAIMS, account) == 0 then
    redis.call('ZADD', DUE, 'XX', now, account)
  end
  return 'accepted'
end

local function reject(account, generation, now)
  local outcome = judge_rejection(account, generation, now)
  measure('rejection', outcome)
  return outcome
end

-- What is further ahead than any pause is not to be waited for: garbage, or a clock was set back.
local function instant_us(kept, furthest)
  local instant = tonumber(kept) or 0
  return instant <= furthest and instant or 0
end

-- GCRA with reservations: grants up to `want` instants within the horizon.
-- Returns how many, when the first is (µs from now; below 0: at once), the spacing in µs, and,
-- where none is granted, how long to wait before asking again in µs.
-- Instants that lie in the past are the burst, saved up while nobody called.
-- While both lanes have work, each is metered to its share, and renewals reserve further ahead.
-- The lane 'first', for the call that all others wait for, passes by what is reserved.
local function reserve(lane, now_ms, rate, burst, want)
  local now = server_us()
  local spacing = 1000000 / rate
  local furthest = now + LONGEST_PAUSE_US + 2 * spacing
  local other = lane == 'renew' and 'exchange' or 'renew'
  local is_contested = lane ~= 'first' and #due_accounts(other, now_ms, 1) > 0
  local horizon = math.max(HORIZON_US, spacing)
  if is_contested and lane == 'renew' then horizon = math.max(URGENT_HORIZON_US, 2 * spacing) end
  if is_contested and lane == 'exchange' then horizon = math.max(YIELDING_HORIZON_US, spacing) end

  local meter, metered_spacing = lane .. '_next_at', spacing / SHARE
  local kept = redis.call('HMGET', LIMITER, 'next_at', 'paused_until', meter)
  local booked = math.max(instant_us(kept[1], furthest), now - burst * spacing)
  local first = math.max(lane == 'first' and now or booked, instant_us(kept[2], furthest))
  local room = math.floor((now + horizon - first) / spacing) + 1
  local granted = math.min(want, room, math.max(1, math.floor(rate * HORIZON_US / 1000000)))
  local opens_in = first - now - horizon
  local metered = math.max(instant_us(kept[3], furthest), now)
  if is_contested then
    granted = math.min(granted, math.floor((now + horizon - metered) / metered_spacing) + 1)
    opens_in = math.max(opens_in, metered - now - horizon)
  end
  if granted < 1 then return 0, 0, 0, math.ceil(math.max(opens_in, 0) + 1) end

  if lane ~= 'first' then booked = first end
  redis.call('HSET', LIMITER, 'next_at', string.format('%.0f', booked + granted * spacing))
  if is_contested then
    redis.call('HSET', LIMITER, meter, string.format('%.0f', metered + granted * metered_spacing))
  end
  redis.call('PEXPIRE', LIMITER, 3600 * 1000)
  return granted, math.floor(first - now), math.ceil(spacing), 0
end
