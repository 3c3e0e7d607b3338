"""Keep and decide: records, rules, the store and its scripts. Knows nothing of Celery."""
