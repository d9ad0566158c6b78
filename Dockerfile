# Signalling, media and HTTP in one process. Alone it listens on loopback only: run it with
# --network host, or publish 8080/tcp, 5060/udp, 5060/tcp and the RTP range, and give it settings,
# such as those of config/public.toml, by --config or BRIDGE_<SECTION>__<KEY>.
FROM python:3.11-slim-bookworm

ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    BRIDGE_VENV=/opt/bridge/.venv \
    BRIDGE_PYTHON=python3

RUN useradd --system --create-home --uid 10001 bridge
WORKDIR /opt/bridge

COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY scripts ./scripts
COPY bridge ./bridge
COPY config ./config
RUN scripts/install

USER 10001
EXPOSE 8080/tcp 5060/udp 5060/tcp
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["/opt/bridge/.venv/bin/python", "-c", "import sys, urllib.request as u; sys.exit(u.urlopen('http://127.0.0.1:8080/healthz', timeout=2).status != 200)"]

ENTRYPOINT ["/opt/bridge/.venv/bin/bridge"]
CMD ["serve"]
