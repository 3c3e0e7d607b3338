-- ARGV: now, account, generation   Returns 'accepted', 'late', 'known' or 'held back'.
local outcome = reject(ARGV[2], ARGV[3], tonumber(ARGV[1]))
write_counts()
return outcome
