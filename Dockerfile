# Worker and control plane as an image: docker build -t agent-worker . && docker run --env-file .env -v calls:/data agent-worker

FROM python:3.12-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/agent-worker
WORKDIR /build
# The dependencies in a layer of their own: a change of our code downloads nothing.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir agent_worker agents prompts tools \
    && echo '__version__ = "0"' > agent_worker/__init__.py \
    && /opt/agent-worker/bin/pip install -c constraints.txt '.[postgres]' \
    && /opt/agent-worker/bin/pip uninstall -y agent-worker
COPY agent_worker agent_worker
COPY agents agents
COPY prompts prompts
COPY tools tools
RUN /opt/agent-worker/bin/pip install --no-deps .

FROM python:3.12-slim-bookworm
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin agent \
    && mkdir -p /app /data && chown agent /data
COPY --from=build /opt/agent-worker /opt/agent-worker
ENV PATH=/opt/agent-worker/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    AGENT_WORKER_DATA_DIR=/data \
    AGENT_WORKER_API_HOST=0.0.0.0 \
    AGENT_WORKER_HEALTH_HOST=0.0.0.0
# Mount your own agents, prompts and tools at /app/agents, /app/prompts and /app/tools; without them the shipped ones serve.
WORKDIR /app
USER 10001
# Journals of calls that are not delivered yet, the database and the recordings: keep it.
VOLUME /data
# The API, and the worker's health.
EXPOSE 8080 8081
# SIGTERM lets live calls end first: give the container AGENT_WORKER_DRAIN_TIMEOUT_SECONDS plus two minutes.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ.get('AGENT_WORKER_HEALTH_PORT', '8081')}/readyz\", timeout=2)"]
# `start` for a worker alone, `serve` for a control plane alone (its health is at port 8080).
CMD ["python", "-m", "agent_worker", "up"]
