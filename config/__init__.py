"""What the operator sets: settings, Celery's configuration, the beat schedule, logging."""
