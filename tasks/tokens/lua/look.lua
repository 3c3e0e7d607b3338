-- ARGV: now, name for new tickets, accounts per ticket, most tickets, lapse ms of a renewal's and
-- of another's, longest follow-up ms, '1' for a sweep, lease of the discovery in ms or 0, holder, ids of its keys,
-- ms after which a silent worker counts as gone, the epoch that the holder remembers or '',
-- the beat that sent the sweep or ''
-- One look at what is to be done. Registers the tickets that the due accounts of each lane lack,
-- and returns {renew tickets, exchange tickets, follow-up ms, '1' to discover, rejections that are
-- held back, {run whose next wave may be due, …}, {worker, 'seen-at key-ids', …},
-- the epoch, 1 where the caller is to say that the data was lost, accounts whose due score was none,
-- ripe run, …}.
-- Follow-up: where nothing is due, or nobody may call, but a run is open, one delayed ticket keeps
-- it going.
local now, name, per_ticket = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local most, longest = tonumber(ARGV[4]), tonumber(ARGV[7])
local HISTORY_SLOT_MS, HISTORY_ROWS = 600000, 145
local LONGEST_LIFETIME_MS = 10 * 366 * 86400 * 1000 -- no answer's token lives longer
local CLOCKS_DIFFER_MS = 60000 -- at most; one that differs by more was set wrong
local number, probe_in = 0, probe_due_in(now)

-- Due further ahead than any token lives: garbage, as infinity is. Without this, never again. A
-- machine that has lost its clock must not think so of the whole fleet.
local function mend_due_scores()
  local furthest = math.max(now, server_us() / 1000) + LONGEST_LIFETIME_MS
  local after, before = string.format('(%.0f', furthest), string.format('(-%.0f', furthest)
  local odd = redis.call('ZRANGE', DUE, after, '+inf', 'BYSCORE', 'LIMIT', 0, 500)
  for _, account in ipairs(odd) do redis.call('ZADD', DUE, 'XX', now, account) end
  local asked = redis.call('ZRANGE', DUE, '-inf', before, 'BYSCORE', 'LIMIT', 0, 500)
  for _, account in ipairs(asked) do redis.call('ZADD', DUE, 'XX', -now, account) end
  return #odd + #asked
end

local function top_up(lane, tickets, lapse)
  redis.call('ZREMRANGEBYSCORE', tickets, '-inf', now)
  redis.call('ZREMRANGEBYSCORE', tickets, now + lapse + CLOCKS_DIFFER_MS, '+inf')
  local due = due_count(lane, now)
  local wanted = math.min(most, math.ceil(due / per_ticket))
  if probe_in then wanted = lane == 'renew' and probe_in <= 0 and 1 or 0 end
  local missing = math.max(0, wanted - redis.call('ZCARD', tickets))
  for _ = 1, missing do
    number = number + 1
    redis.call('ZADD', tickets, now + lapse, name .. ':' .. number)
  end
  return due, missing
end

local function follow_up()
  local watch = redis.call('ZRANGE', RUNS, 0, 0, 'WITHSCORES')[2]
  if not watch then return 0 end
  local at = tonumber(watch)
  if probe_in then at = math.min(at, now + probe_in) end
  local renewal = redis.call('ZRANGE', DUE, 0, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')[2]
  local asked = redis.call('ZRANGE', DUE, '(0', '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, 1, 'WITHSCORES')[2]
  if renewal then at = math.min(at, tonumber(renewal)) end
  if asked then at = math.min(at, -tonumber(asked)) end
  local delay = math.ceil(math.max(100, math.min(at - now, longest)))
  local planned = tonumber(redis.call('GET', FOLLOW_UP))
  if planned and planned <= now + delay then return 0 end
  redis.call('SET', FOLLOW_UP, string.format('%.0f', now + delay), 'PX', delay)
  return delay
end

-- What readers reported since the last look, read once.
local function act_on_rejections()
  local held_back, read = 0, {}
  for _, entry in ipairs(redis.call('XRANGE', REJECTIONS, '-', '+', 'COUNT', 500)) do
    local field = {}
    for i = 1, #entry[2], 2 do field[entry[2][i]] = entry[2][i + 1] end
    read[#read + 1] = entry[1]
    if reject(field.account or '', field.generation or '', now) == 'held back' then
      held_back = held_back + 1
    end
  end
  if #read > 0 then redis.call('XDEL', REJECTIONS, unpack(read)) end
  return held_back
end

local function tell_who_expired()
  local since = math.min(now, tonumber(redis.call('HGET', FLEET, 'expired_until')) or now)
  local expired = redis.call('ZRANGE', EXPIRY, '(' .. string.format('%.0f', since), now,
    'BYSCORE', 'LIMIT', 0, 100, 'WITHSCORES')
  for i = 1, #expired, 2 do emit('account.expired', 'account', expired[i]) end
  redis.call('HSET', FLEET, 'expired_until', #expired == 200 and expired[200] or now)
end

-- Notes a sign of life, which begins with when it came; who has been silent for too long is dropped.
local function note_life(key, name, more, silent)
  if name ~= '' then redis.call('HSET', key, name, string.format('%.0f', now) .. more) end
  local kept = redis.call('HGETALL', key)
  for i = 1, #kept, 2 do
    local seen_at = tonumber(string.match(kept[i + 1], '^%d+')) or 0
    if seen_at + silent < now then redis.call('HDEL', key, kept[i]) end
  end
end

-- A row of the fleet's totals for each ten minutes, and how many at most were without a token at
-- once in the ten before; the first sweep of the next ten writes it.
local function keep_history()
  local slot, uncovered = math.floor(now / HISTORY_SLOT_MS), redis.call('ZCOUNT', EXPIRY, 0, now)
  local kept = redis.call('HMGET', FLEET, 'history_slot', 'most_uncovered')
  local most = math.max(uncovered, tonumber(kept[2]) or 0)
  local is_kept = tonumber(kept[1]) == slot or tonumber(kept[1]) == slot + 1 -- by a clock ahead
  if is_kept then
    if most > (tonumber(kept[2]) or 0) then redis.call('HSET', FLEET, 'most_uncovered', most) end
    return
  end
  local row = { 'at', string.format('%.0f', now), 'enrolled', redis.call('ZCARD', DUE),
    'most_uncovered', most }
  for _, total in ipairs({ 'exchanged', 'renewed', 'failed', 'uncovered_ms' }) do
    row[#row + 1], row[#row + 2] = total, redis.call('HGET', FLEET, total) or 0
  end
  redis.call('XADD', HISTORY, 'MAXLEN', HISTORY_ROWS, '*', unpack(row))
  redis.call('HSET', FLEET, 'history_slot', slot, 'most_uncovered', uncovered)
end

-- The epoch names this data. Who remembers another has seen the data lost; the first one says so.
local function compare_epochs(remembered)
  redis.call('SET', EPOCH, name, 'NX')
  local epoch = redis.call('GET', EPOCH)
  if remembered == '' or remembered == epoch
      or redis.call('HGET', FLEET, 'lost_epoch') == remembered then return epoch, 0 end
  redis.call('HSET', FLEET, 'lost_epoch', remembered, 'discovery_due_at', 0)
  emit('store.lost')
  return epoch, 1
end

local epoch, is_lost = compare_epochs(ARGV[13])
local held_back = act_on_rejections()
local mended = mend_due_scores()
local renewals, renew = top_up('renew', RENEW_TICKETS, tonumber(ARGV[5]))
local asked, exchange = top_up('exchange', EXCHANGE_TICKETS, tonumber(ARGV[6]))
local delay = (probe_in or renewals + asked == 0) and follow_up() or 0

local discover, lease, silent = '0', tonumber(ARGV[9]), tonumber(ARGV[12])
if ARGV[8] == '1' then
  redis.call('HSET', FLEET, 'swept_at', now)
  tell_who_expired()
  note_life(BEATS, ARGV[14], '', silent)
  keep_history()
  local due_at = tonumber(redis.call('HGET', FLEET, 'discovery_due_at')) or 0
  if lease > 0 and (due_at <= now or due_at > now + LONGEST_LIFETIME_MS) then
    redis.call('HSET', FLEET, 'discovery_due_at', now + lease)
    discover = '1'
  end
end
local waves = redis.call('ZRANGE', WAVES, '-inf', now, 'BYSCORE', 'LIMIT', 0, 20)
-- With the keys that each worker process holds: nobody seals what another cannot open.
note_life(WORKERS, ARGV[10], ' ' .. ARGV[11], silent)
local workers = redis.call('HGETALL', WORKERS)
write_counts()
return { renew, exchange, delay, discover, held_back, waves, workers, epoch, is_lost,
  mended, unpack(ripe_runs(now)) }
