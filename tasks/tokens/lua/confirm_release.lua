-- ARGV: run   Its step has returned; the watcher need not look again.
redis.call('HDEL', RUN .. ARGV[1], 'continuation', 'release_lease', 'resume_lease')
return redis.call('ZREM', RUNS, ARGV[1])
