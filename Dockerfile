# One image for worker, beat and the command line. Every package is pinned and its hash checked.
# It was never built where it was written, as no container engine was at hand.
FROM python:3.13-slim AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
RUN python -m venv /opt/subtokens
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN python -m pip install --require-hashes -r requirements/build.txt \
    && /opt/subtokens/bin/pip install --require-hashes -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE __init__.py py.typed ./
COPY config config
COPY tasks tasks
COPY workers workers
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/subtokens/bin/pip install --no-deps --no-index /wheels/*.whl

FROM python:3.13-slim

RUN useradd --uid 10001 --create-home subtokens
COPY --from=build /opt/subtokens /opt/subtokens
# Its root may be read-only: nothing is written but signs of life, to a folder that is mounted.
ENV PATH=/opt/subtokens/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
WORKDIR /home/subtokens
CMD ["celery", "-A", "subtokens.workers", "worker"]
