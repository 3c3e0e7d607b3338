-- ARGV: now, lease ms, want, rate, burst
-- Takes permits for a call each, then as many due accounts, leased until now + lease.
-- First those due by the clock, earliest expiry first (no token at all is earliest), so that a
-- renewal never stands behind a fan-out; then those that runs asked for, longest wait first.
-- Returns {generation, first µs, spacing µs, wait µs, account, attempts, …}.
local now, lease, want = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local rate, burst = tonumber(ARGV[4]), tonumber(ARGV[5])

local due = redis.call('ZRANGE', DUE, 0, now, 'BYSCORE', 'LIMIT', 0, want * 2, 'WITHSCORES')
local candidates, accounts = {}, {}
for i = 1, #due, 2 do
  accounts[#accounts + 1] = due[i]
  candidates[#candidates + 1] = { due[i], due[i + 1] }
end
if #accounts > 0 then
  local expiries = redis.call('ZMSCORE', EXPIRY, unpack(accounts))
  for i, candidate in ipairs(candidates) do candidate[3] = tonumber(expiries[i] or 0) end
  table.sort(candidates, function(a, b)
    if a[3] ~= b[3] then return a[3] < b[3] end
    return a[1] < b[1]
  end)
end
if #candidates < want then
  local asked = redis.call('ZRANGE', DUE, '(0', '-inf', 'BYSCORE', 'REV',
    'LIMIT', 0, want - #candidates, 'WITHSCORES')
  for i = 1, #asked, 2 do candidates[#candidates + 1] = { asked[i], asked[i + 1] } end
end

local wanted = math.min(want, #candidates)
if wanted == 0 then return { '0', 0, 0, 0 } end
local granted, first, spacing, wait = reserve(rate, burst, wanted)
if granted == 0 then return { '0', 0, 0, wait } end

local generation = next_generation()
local claim = { generation, first, spacing, 0 }
for i = 1, granted do
  local account, score = candidates[i][1], candidates[i][2]
  redis.call('HSET', CLAIMS, account, generation .. ' ' .. score)
  redis.call('ZADD', DUE, 'XX', now + lease, account)
  claim[#claim + 1] = account
  claim[#claim + 1] = tonumber(redis.call('HGET', STATE .. account, 'attempts') or 0)
end
return claim
