-- ARGV: run, message, at once   What a run of waves sends for each of its accounts.
return redis.call('HSET', RUN .. ARGV[1], 'message', ARGV[2], 'at_once', ARGV[3])
