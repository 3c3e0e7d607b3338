-- ARGV: run, now, account, …
-- Attaches the run to each account and makes the account due, unless it is in flight already.
-- A repeat changes nothing. Returns how many are open.
local run, now = ARGV[1], tonumber(ARGV[2])
local key = RUN .. run

local function is_settled(account)
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

for i = 3, #ARGV do
  local account = ARGV[i]
  local score = tonumber(redis.call('ZSCORE', DUE, account))
  if not score then
    file_failed(run, 'not_enrolled', account)
  elseif not is_settled(account) then
    file_under(run, 'open', account)
    local waiting = still_waiting(redis.call('HGET', STATE .. account, 'runs'))
    waiting[#waiting + 1] = run
    redis.call('HSET', STATE .. account, 'runs', table.concat(waiting, ' '))
    if score > now and redis.call('HEXISTS', CLAIMS, account) == 0 then
      redis.call('ZADD', DUE, 'XX', -now, account)
    end
  end
end
return redis.call('SCARD', key .. ':open')
