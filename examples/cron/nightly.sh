#!/usr/bin/env bash
# Readiness for a batch that cron starts, without a beat entry or a task of your own: `ensure`
# waits until the tokens are there, and its exit code tells. With the variables of .env.example
# in .env beside this file, workers and beat of subtokens running (README), and in the crontab:
#   0 2 * * *  PATH=/srv/venv/bin:$PATH /srv/settlement/nightly.sh
# Exit code: 0 settled, 1 too few tokens or a call that failed, 2 bad settings, 3 no Redis.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

subtokens ensure --valid-for 2h --policy 0.995
subtokens accounts list --json | python settle_all.py
