#!/usr/bin/env bash
# Runs every command of the walk-through in docs/deploy.md, in order and in one shell, and stops at the first that fails.
# What is not set is chosen here: a PostgreSQL of its own, a folder that is removed, ports that are free.
#   make walkthrough          deploy/walkthrough.sh
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="${BIN:-$PWD/.venv/bin}:$PATH:/usr/sbin"

free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

own=$(mktemp -d /tmp/edgefleet-walk-XXXXXX)
postgres() { "$@"; }
stop_postgres() { :; }
finish() {
  code=$?
  # whatever an early end has left running, and the database last
  kill $(jobs -p) 2>/dev/null || true
  wait || true
  stop_postgres
  [ $code = 0 ] || tail -n 5 "$TRIAL"/*.log >&2 2>/dev/null || true
  rm -rf "$own"
  exit $code
}
trap finish EXIT

export TRIAL=${TRIAL:-$own/trial} HTTP=${HTTP:-$(free)} MQTT=${MQTT:-$(free)} DOOR=${DOOR:-$(free)}
if [ -z "${DATABASE:-}" ]; then
  programs=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1) || true
  [ -n "$programs" ] || { echo "walkthrough: PostgreSQL is not installed; install it, or set DATABASE" >&2; exit 1; }
  mkdir "$own/postgres"
  if [ "$(id -u)" = 0 ]; then  # PostgreSQL refuses to run as root
    chmod 0755 "$own"
    chown postgres "$own/postgres"
    postgres() { (cd / && runuser -u postgres -- "$@"); }
  fi
  postgres "$programs/initdb" -D "$own/postgres/data" -A trust -U edgefleet -E UTF8 --no-sync >/dev/null
  postgres "$programs/pg_ctl" -D "$own/postgres/data" -l "$own/postgres/log" -w \
    -o "-k $own/postgres -c listen_addresses='' -c fsync=off" start >/dev/null
  stop_postgres() { postgres "$programs/pg_ctl" -D "$own/postgres/data" -m immediate stop >/dev/null; }
  postgres "$programs/createdb" -h "$own/postgres" -U edgefleet edgefleet
  export DATABASE="postgresql://edgefleet@/edgefleet?host=$own/postgres"
fi

# the blocks of ```sh between the two marks, as they stand
commands=$(awk '/^<!-- walkthrough -->$/ {on = 1} /^<!-- end of the walkthrough -->$/ {on = 0}
  on && /^```$/ {block = 0} on && block {print} on && /^```sh$/ {block = 1}' docs/deploy.md)
[ -n "$commands" ] || { echo "walkthrough: docs/deploy.md has no commands" >&2; exit 1; }
[ -z "${VERBOSE:-}" ] || set -v
eval "$commands"
