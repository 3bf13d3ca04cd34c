#!/bin/sh
# mosquitto beside an edge-fleet server: it starts when the server has written what it reads, and reads it again
# (SIGHUP) when the server has changed it: a device that enrolled, one that was put out.
#   run.sh [mosquitto.conf [folder of the server's files]]
set -eu
config=${1:-/etc/edgefleet/mosquitto.conf}
files=${2:-/etc/edgefleet/broker}
names="passwords acl client-ca.pem revoked.pem server.pem server.key"

state() { (cd "$files" 2>/dev/null && stat -c '%n %i %Y %s' $names 2>/dev/null) || true; }

complete() {
  for name in $names; do [ -s "$files/$name" ] || return 1; done
}

stop() { [ -z "$broker" ] || kill -TERM "$broker" 2>/dev/null || true; stopped=yes; }

broker= stopped=
trap stop TERM INT
until complete; do
  [ -z "$stopped" ] || exit 0
  sleep 1 & wait $! || true
done
known=$(state)
mosquitto -c "$config" &
broker=$!
while kill -0 "$broker" 2>/dev/null; do
  # a signal ends the wait, not the sleep
  sleep 1 & wait $! || true
  [ -z "$stopped" ] || break
  now=$(state)
  if [ "$now" != "$known" ]; then
    known=$now
    kill -HUP "$broker" 2>/dev/null || true
  fi
done
wait "$broker" && code=0 || code=$?
exit "$code"
