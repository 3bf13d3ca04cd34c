# The server in a container: docker build -f deploy/fleet.Dockerfile -t edge-fleet:0.1.0 .
# deploy/compose.yaml runs it with PostgreSQL, mosquitto, Prometheus and Grafana; alone:
#   docker run -d --init --stop-timeout 40 --name edge-fleet -v edge-fleet:/var/lib/edge-fleet \
#     -p 8080:8080 -p 1883:1883 edge-fleet:0.1.0
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY setup.cfg pyproject.toml constraints.txt README.md LICENSE ./
COPY contracts contracts
COPY agent agent
COPY converter converter
COPY fleet-server fleet-server
COPY device-profiles device-profiles
RUN python -m venv /opt/edgefleet \
 && /opt/edgefleet/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt '.[server,postgres]' \
 && /opt/edgefleet/bin/edge-fleet --version

FROM python:3.11-slim-bookworm
COPY --from=build /opt/edgefleet /opt/edgefleet
# a volume takes its owner from the folder that it is first laid over
RUN useradd --system --uid 10002 --home-dir /var/lib/edge-fleet --no-create-home --shell /usr/sbin/nologin edge-fleet \
 && install -d -m 0700 -o edge-fleet -g edge-fleet /var/lib/edge-fleet /etc/edgefleet/broker \
 && install -d -m 0755 -o edge-fleet -g edge-fleet /var/lib/prometheus-access
USER edge-fleet
ENV EDGE_FLEET_HOME=/var/lib/edge-fleet PYTHONUNBUFFERED=1 PATH=/opt/edgefleet/bin:$PATH
VOLUME /var/lib/edge-fleet
# SIGTERM ends the server in good order: what has arrived is stored and acknowledged
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=3 CMD ["edge-fleet", "health"]
ENTRYPOINT ["edge-fleet"]
CMD ["serve", "--http", "0.0.0.0:8080", "--https", "--mqtt", "0.0.0.0:1883"]
