#!/bin/sh
# Install the Edgefleet agent on a device: its own environment, user, folders and systemd service.
# Needs Python 3.11 or newer with venv, and a package index; nothing else. Running it again upgrades.
#
#   sudo sh install.sh                        the newest release from the index
#   sudo sh install.sh edgefleet-*.whl        a file, such as one from a USB stick
#
# PREFIX (/opt/edgefleet) holds the environment, EDGE_AGENT_HOME (/var/lib/edge-agent) the device's key, models
# and outbox. ACCOUNT (edge-agent) is the user that it runs as; empty: for yourself, with no user and no service.
# PIP_ARGS goes to pip ("--no-index --find-links /media/usb"). The release before stays below PREFIX/releases.
set -eu
umask 022 # what root installs here another user runs

PREFIX=${PREFIX:-/opt/edgefleet}
EDGE_AGENT_HOME=${EDGE_AGENT_HOME:-/var/lib/edge-agent}
SYSTEMD_DIR=${SYSTEMD_DIR:-/etc/systemd/system}
ACCOUNT=${ACCOUNT-edge-agent}
here=$(cd "$(dirname "$0")" && pwd)

say() { echo "install: $*"; }
refuse() { echo "install: $*" >&2; exit 1; }

case "${1:-}" in
  -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
  -*) refuse "unknown option $1; --help tells what there is" ;;
esac
source=${1:-edgefleet}
case "$source" in
  *.whl) [ -f "$source" ] || refuse "$source is not a file"; source=$(cd "$(dirname "$source")" && pwd)/$(basename "$source") ;;
esac

python=
for one in ${PYTHON:-} python3.13 python3.12 python3.11 python3; do
  if command -v "$one" >/dev/null && "$one" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$one
    break
  fi
done
[ -n "$python" ] || refuse "no Python 3.11 or newer was found; set PYTHON=/path/to/python"
"$python" -c 'import ensurepip, venv' 2>/dev/null || refuse "$python has no venv; on Debian: apt install python3-venv"

if [ -n "$ACCOUNT" ] && [ "$(id -u)" != 0 ]; then
  refuse "a service for the user $ACCOUNT takes root; for yourself: ACCOUNT= PREFIX=~/edgefleet EDGE_AGENT_HOME=~/.edgefleet/agent sh $0"
fi
# a Python below root's home runs for root alone; 65534 is nobody. Through a shell: setpriv itself may still do as root
if [ -n "$ACCOUNT" ] && command -v setpriv >/dev/null &&
  ! setpriv --reuid 65534 --regid 65534 --clear-groups sh -c '"$1" -c ""' sh "$(command -v "$python")" 2>/dev/null; then
  refuse "the user $ACCOUNT could not run $(command -v "$python"), as others than root cannot; set PYTHON=/usr/bin/python3 or another that everybody may run"
fi

# the new environment is made beside the old one and takes its place in one step: a power cut leaves one that works
mkdir -p "$PREFIX/releases"
release=$PREFIX/releases/$(date +%Y%m%d%H%M%S)-$$
trap 'rm -rf "$release"' EXIT INT TERM
"$python" -m venv "$release"
case "$source" in
  *.whl) wanted="edgefleet[agent] @ file://$source" ;;
  *) wanted="${source}[agent]" ;;
esac
say "installing $wanted into $PREFIX"
# shellcheck disable=SC2086 # PIP_ARGS are several words
"$release/bin/python" -m pip --disable-pip-version-check --quiet install ${PIP_ARGS:-} "$wanted"
version=$("$release/bin/edge-agent" --version) || refuse "what was installed does not start; nothing was changed"
# the service keeps no docstrings in memory and may not write: its byte code is made here, Python's own modules' too.
# What is missing there or is of another Python is compiled at each start; it is never the reason that one fails
"$release/bin/python" -c 'import sysconfig as s; print(s.get_path("stdlib"), s.get_path("purelib"), sep="\n")' |
  while read -r folder; do
    skip='/(test|tests|idlelib|lib2to3|tkinter|turtledemo|ensurepip|pip|setuptools)/'
    [ "$folder" = "${folder#"$release"}" ] && skip="/(site-packages|dist-packages)/|$skip"
    PYTHONPYCACHEPREFIX=$release/bytecode "$release/bin/python" -m compileall -qq -j 0 -o 2 -x "$skip" "$folder" ||
      say "not all of $folder was compiled: a start may take longer"
  done
PYTHONOPTIMIZE=2 PYTHONPYCACHEPREFIX=$release/bytecode "$release/bin/edge-agent" --version >/dev/null ||
  refuse "what was installed does not start as the service does; nothing was changed"
sync
ln -sfn "releases/$(basename "$release")/bin" "$PREFIX/bin.new"
mv -T "$PREFIX/bin.new" "$PREFIX/bin"
trap - EXIT INT TERM
say "$version"

if [ -n "$ACCOUNT" ]; then
  id "$ACCOUNT" >/dev/null 2>&1 ||
    useradd --system --home-dir "$EDGE_AGENT_HOME" --no-create-home --shell /usr/sbin/nologin "$ACCOUNT"
  for group in plugdev render video; do
    if getent group "$group" >/dev/null; then usermod -a -G "$group" "$ACCOUNT"; fi
  done
  install -d -m 0700 -o "$ACCOUNT" -g "$ACCOUNT" "$EDGE_AGENT_HOME" "$EDGE_AGENT_HOME/input"
  ln -sfn "$PREFIX/bin/edge-agent" /usr/local/bin/edge-agent
  if [ -f "$here/edge-agent.service" ] && [ -d "$SYSTEMD_DIR" ]; then
    sed -e "s#/opt/edgefleet#$PREFIX#g" -e "s#/var/lib/edge-agent#$EDGE_AGENT_HOME#g" -e "s#^User=.*#User=$ACCOUNT#" \
      "$here/edge-agent.service" >"$SYSTEMD_DIR/edge-agent.service"
    say "service: $SYSTEMD_DIR/edge-agent.service"
  fi
  if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl try-restart edge-agent
  fi
  as="sudo -u $ACCOUNT EDGE_AGENT_HOME=$EDGE_AGENT_HOME "
else
  as="EDGE_AGENT_HOME=$EDGE_AGENT_HOME "
fi

# the newest and the one before it stay: names begin with their date
set -- "$PREFIX"/releases/*
while [ $# -gt 2 ]; do
  rm -rf "$1"
  shift
done

echo "next:"
echo "  ${as}$PREFIX/bin/edge-agent enroll --server URL --token TOKEN --profile NAME"
[ -z "$ACCOUNT" ] || echo "  sudo systemctl enable --now edge-agent"
echo "  ${as}$PREFIX/bin/edge-agent doctor"
