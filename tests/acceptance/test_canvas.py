"""Our steps in canvases of our own app: `celery -A subtokens.workers worker`, without beat."""

import os
import signal
from collections.abc import Callable
from uuid import uuid4

import pytest
from celery import Celery, chain, chord, group
from celery.result import AsyncResult

import subtokens

from .conftest import Site, Upstream, account_ids, await_ready, eventually
