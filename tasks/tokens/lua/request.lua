-- ARGV: run, now, '1' for a retry, account, …
-- Attaches the run to each account and makes the account due, unless it is in flight already.
-- An account that backs off for a fault of its own has failed for this run, and one that backs
-- off for another's keeps its instant; a retry clears both. A repeat changes nothing.
-- Returns how many are open.
local run, now, is_retry = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local key = RUN .. run
local is_fresh = redis.call('EXISTS', key .. ':done', key .. ':reasons') == 0

local function is_settled(account)
  if is_fresh then return false end
  if redis.call('SISMEMBER', key .. ':done', account) == 1 then return true end
  for _, reason in ipairs(redis.call('SMEMBERS', key .. ':reasons')) do
    if redis.call('SISMEMBER', key .. ':failed:' .. reason, account) == 1 then return true end
  end
  return false
end

local function still_waiting(attached)
  local waiting = {}
  for other in string.gmatch(attached or '', '%S+') do
    if other ~= run and redis.call('EXISTS', RUN .. other) == 1
        and redis.call('HEXISTS', RUN .. other, 'ended_at') == 0 then
      waiting[#waiting + 1] = other
    end
  end
  return waiting
end

-- What is asked of all, and told of all, is so by one command each: a fan-out waits for this.
local scores, claims = {}, {}
if #ARGV > 3 then
  scores = redis.call('ZMSCORE', DUE, unpack(ARGV, 4))
  claims = redis.call('HMGET', CLAIMS, unpack(ARGV, 4))
end
local opened, due_now = {}, {}

local function attach(account, attached)
  opened[#opened + 1] = account
  local waiting = still_waiting(attached)
  waiting[#waiting + 1] = run
  redis.call('HSET', STATE .. account, 'runs', table.concat(waiting, ' '))
end

for i = 1, #scores do
  local account, score = ARGV[i + 3], tonumber(scores[i])
  if not score then
    file_failed(run, 'not_enrolled', account)
  elseif not is_settled(account) then
    local state = STATE .. account
    if is_retry then
      redis.call('HDEL', state, 'attempts', 'repeats', 'is_final')
      leave_quarantine(account, now)
    end
    local kept =
      redis.call('HMGET', state, 'runs', 'attempts', 'is_final', 'quarantined_at', 'history')
    local is_later = math.abs(score) > now and not claims[i]
    if is_later and kept[3] == '1' then
      file_failed(run, kept[4] and 'quarantined' or string.match(kept[5], ':(%S+)'), account)
    else
      attach(account, kept[1])
      if is_later and not kept[2] then
        due_now[#due_now + 1], due_now[#due_now + 2] = -now, account
      end
    end
  end
end
if #opened > 0 then file_under(run, 'open', unpack(opened)) end
if #due_now > 0 then redis.call('ZADD', DUE, 'XX', unpack(due_now)) end
if is_retry and probe_due_in(now) then redis.call('HSET', CIRCUIT, 'probe_at', now) end
watch_filling(run, now)
write_counts()
return redis.call('SCARD', key .. ':open')
