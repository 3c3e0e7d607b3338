"""Celery's own configuration for the app of subtokens, with the reason beside each choice."""

import ssl
from typing import Any
from urllib.parse import urlsplit

from .schedule import beat_schedule
from .settings import Settings
from .urls import celery_address


def celery_configuration(settings: Settings) -> dict[str, Any]:
    """Celery's settings for our own app; other people's apps keep theirs.

    Never sets task_default_queue or a global key prefix: a worker publishes the next step of a
    user's chain with its own app's routes, and that step must reach the user's queue.
    """
    broker, by_sentinels = celery_address(settings.broker_url.get_secret_value())
    result_url = settings.result_url or settings.broker_url
    result, results_by_sentinels = celery_address(result_url.get_secret_value())
    visibility = settings.visibility_timeout_seconds
    # Celery's backend asks to be told how to verify; its transport for the broker verifies anyway.
    verified = {"redis_backend_use_ssl": {"ssl_cert_reqs": ssl.CERT_REQUIRED}}
    return {
        **(verified if urlsplit(result).scheme == "rediss" else {}),
        "broker_url": broker,
        "result_backend": result,
        "include": ["subtokens.tasks"],
        # JSON alone: whoever can write to the broker must not be able to run code by pickle.
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "task_ignore_result": True,  # the tasks that canvases wait for switch it on themselves
        # A chord's counter lives as long; its header may hold a run, which may take a day.
        "result_expires": 2 * 86400,
        # While Redis restarts and reads its file, whatever is to be sent or kept waits; otherwise
        # Celery would fail a step that has ended well, with a connection's error as its result.
        "task_publish_retry_policy": {
            "max_retries": 8,
            "interval_start": 0,
            "interval_step": 0.2,
            "interval_max": 1,
        },
        "result_backend_always_retry": True,
        "result_backend_max_sleep_between_retries_ms": 1000,
        "result_backend_max_retries": 60,
        "worker_prefetch_multiplier": 1,
        "worker_hijack_root_logger": False,
        "worker_send_task_events": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # A full Redis 6.2 refuses acknowledgements too: the consumer begins anew and does not exit.
        "broker_channel_error_retry": True,
        "broker_transport_options": {
            "visibility_timeout": visibility,
            # kombu's own names are shared by every app on a broker, and any consumer restores
            # others' messages by its own visibility timeout: a user's long task would start twice.
            "unacked_key": f"{settings.namespace}.unacked",
            "unacked_index_key": f"{settings.namespace}.unacked_index",
            "unacked_mutex_key": f"{settings.namespace}.unacked_mutex",
            # A firewall may forget connections without a word: kombu drops a consumer's when it
            # has been silent for two of these intervals, and everybody else's after the timeout.
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "max_connections": 30,
            **by_sentinels,
        },
        "result_backend_transport_options": results_by_sentinels,
        "redis_socket_timeout": 10,
        "redis_socket_connect_timeout": 5,
        "redis_socket_keepalive": True,
        "redis_backend_health_check_interval": 10,
        "beat_schedule": beat_schedule(),
        # The schedule is one interval entry: beat keeps nothing worth a file.
        "beat_scheduler": "celery.beat:Scheduler",
        "beat_max_loop_interval": 1,
        "timezone": "UTC",
    }
