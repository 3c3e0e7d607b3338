-- ARGV: now, account, generation   Returns 'accepted', 'late', 'known' or 'held back'.
return reject(ARGV[2], ARGV[3], tonumber(ARGV[1]))
