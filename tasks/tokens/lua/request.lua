-- ARGV: run, now, '1' for a retry, account, …
-- Has the run wait for each account and makes the account due, unless it is in flight already.
-- An account that backs off for a fault of its own has failed for this run, and one that backs
-- off for another's keeps its instant; a retry clears both. A repeat changes nothing.
-- What is asked of all, and told of all, is so by one command each: a fan-out waits for this.
-- Returns how many are open.
local run, now, is_retry = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local key = RUN .. run

local is_settled = {} -- by the account's place

local function note_settled(part)
  for i, found in ipairs(redis.call('SMISMEMBER', key .. ':' .. part, unpack(ARGV, 4))) do
    is_settled[i] = is_settled[i] or found == 1
  end
end

local with_this = {} -- the runs that waited, and those that do so now; of most accounts the same

local function waiting_with_this(before)
  if not with_this[before] then
    local runs = {}
    for other in string.gmatch(before, '%S+') do
      if other ~= run and state_of_run(other) ~= 'over' then runs[#runs + 1] = other end
    end
    runs[#runs + 1] = run
    with_this[before] = table.concat(runs, ' ')
  end
  return with_this[before]
end

local scores = redis.call('ZMSCORE', DUE, unpack(ARGV, 4))
local claims = redis.call('HMGET', CLAIMS, unpack(ARGV, 4))
local waiting = redis.call('HMGET', WAITING, unpack(ARGV, 4))
local is_failing = redis.call('SMISMEMBER', FAILING, unpack(ARGV, 4))
note_settled('done')
for _, reason in ipairs(redis.call('SMEMBERS', key .. ':reasons')) do
  note_settled('failed:' .. reason)
end

-- Returns whether it has an instant of its own, and for its own fault why.
local function back_off_of(account)
  local state = STATE .. account
  if is_retry then
    redis.call('HDEL', state, 'attempts', 'repeats', 'is_final')
    leave_quarantine(account, now)
    return false
  end
  local kept = redis.call('HMGET', state, 'attempts', 'is_final', 'quarantined_at', 'history')
  if kept[2] ~= '1' then return kept[1] end
  return true, kept[3] and 'quarantined' or string.match(kept[4] or '', ':(%S+)') or 'refused'
end

local opened, waits, due_now = {}, {}, {}
for i = 1, #scores do
  local account, score = ARGV[i + 3], tonumber(scores[i])
  if not score then
    file_failed(run, 'not_enrolled', account)
  elseif not is_settled[i] then
    local is_later = math.abs(score) > now and not claims[i]
    local is_backing_off, own_fault
    if is_failing[i] == 1 then is_backing_off, own_fault = back_off_of(account) end
    if is_later and own_fault then
      file_failed(run, own_fault, account)
    else
      opened[#opened + 1] = account
      waits[#waits + 1], waits[#waits + 2] = account, waiting_with_this(waiting[i] or '')
      if is_later and not is_backing_off then
        due_now[#due_now + 1], due_now[#due_now + 2] = -now, account
      end
    end
  end
end
if #opened > 0 then
  redis.call('HSET', WAITING, unpack(waits))
  file_under(run, 'open', unpack(opened))
end
if #due_now > 0 then redis.call('ZADD', DUE, 'XX', unpack(due_now)) end
if is_retry and probe_due_in(now) then redis.call('HSET', CIRCUIT, 'probe_at', now) end
watch_filling(run, now)
write_counts()
return redis.call('SCARD', key .. ':open')
