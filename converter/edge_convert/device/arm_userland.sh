#!/usr/bin/env bash
# An aarch64 Python run by qemu, and a counter of its instructions: no root, no chroot, nothing installed on the host.
# `edge-convert arm-userland` runs this; about 20 seconds, 80 MB of downloads, 250 MB on disk.
#
#   arm_userland.sh TARGET REQUIREMENT...           pip's requirements; PYTHON=the host's Python that has pip
#   TARGET/bin/python-arm script.py ...             ARM_CPU=cortex-a72 | cortex-a76 | cortex-a53; ARM_COUNT=1 counts
#
# Needs an amd64 Debian (or Ubuntu) host with apt-get, dpkg-deb and pip, and a C compiler (CC, else cc) for
# the counter. Packages are unpacked, never installed: their maintainer scripts do not run.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
T=$(mkdir -p "${1:?target folder}" && cd "$1" && pwd)
shift
PY=python3.11

command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || { echo "needs a Debian host (apt-get, dpkg-deb)" >&2; exit 1; }
[ "$(dpkg --print-architecture)" = amd64 ] || { echo "needs an amd64 host, this is $(dpkg --print-architecture)" >&2; exit 1; }

unpack() { # unpack ARCH FOLDER PACKAGE...: the packages and all that they need, through an apt state of our own
  local arch=$1 folder=$2 state=$T/apt-$1
  shift 2
  mkdir -p "$state"/{lists,cache/archives}/partial "$folder"
  : >"$state/status"
  local options=(-qq -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o Dir::State="$state"
    -o Dir::State::status="$state/status" -o Dir::State::lists="$state/lists" -o Dir::Cache="$state/cache"
    -o APT::Sandbox::User="$(id -un)" -o APT::Install-Recommends=0)
  apt-get "${options[@]}" update
  apt-get "${options[@]}" -y --download-only install "$@" >/dev/null
  for package in "$state"/cache/archives/*.deb; do dpkg-deb -x "$package" "$folder"; done
  rm -rf "$state"
}
HOST=$T/host ROOT=$T/root SITE=$T/site
unpack amd64 "$HOST" qemu-user
unpack arm64 "$ROOT" "$PY" libstdc++6
rm -rf "$HOST"/usr/share/{doc,man,locale} "$ROOT"/usr/share/{doc,man,locale}
find "$HOST/usr/bin" -name 'qemu-*' ! -name qemu-aarch64 -delete

# LiteRT >= 2.2 dies on an x86 /proc/cpuinfo; qemu -L serves files found below ROOT in place of the host's
mkdir -p "$ROOT/proc" "$ROOT/sys/devices/system/cpu"
for core in 0 1 2 3; do
  printf 'processor\t: %d\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n' "$core"
done >"$ROOT/proc/cpuinfo"
for file in possible present online; do echo 0-3 >"$ROOT/sys/devices/system/cpu/$file"; done

platforms=()
for glibc in 2014 _2_17 _2_24 _2_26 _2_27 _2_28 _2_31 _2_34 _2_35 _2_36; do
  platforms+=(--platform "manylinux${glibc}_aarch64")
done
PIP_ROOT_USER_ACTION=ignore "${PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --no-compile --upgrade --target "$SITE" \
  --only-binary=:all: --python-version "${PY#python}" --implementation cp "${platforms[@]}" "$@"

mkdir -p "$T/bin"
# -cpu is pinned on purpose: qemu 7.2's default (max) has a broken SME, with which LiteRT silently computes garbage
cat >"$T/bin/python-arm" <<SH
#!/bin/sh
export PYTHONHOME="$ROOT/usr" PYTHONPATH="$SITE\${ARM_PYTHONPATH:+:\$ARM_PYTHONPATH}"
exec "$HOST/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" \\
  --library-path "$HOST/lib/x86_64-linux-gnu:$HOST/usr/lib/x86_64-linux-gnu" \\
  "$HOST/usr/bin/qemu-aarch64" \${ARM_COUNT:+-plugin "$T/bin/counter.so"} -cpu "\${ARM_CPU:-cortex-a72}" -L "$ROOT" \\
  -0 "$T/bin/python-arm" "$ROOT/usr/bin/$PY" "\$@"
SH
chmod +x "$T/bin/python-arm"
"$T/bin/python-arm" -c 'import platform; assert platform.machine() == "aarch64"; print("aarch64 Python", platform.python_version())'

# The counter must name a version of qemu's plug-in interface that this qemu takes: 1 until 8, 2 and newer since 9
rm -f "$T/bin/counter.so"
for version in 1 2 4; do
  "${CC:-cc}" -O2 -shared -fPIC -DPLUGIN_VERSION=$version -o "$T/bin/counter.so" "$here/arm_counter.c" || break
  if ARM_COUNT=1 "$T/bin/python-arm" -c pass >/dev/null 2>&1; then
    echo "instructions are counted"
    exit 0
  fi
done
rm -f "$T/bin/counter.so"
echo "instructions are not counted: that needs a C compiler (cc), and qemu with plug-ins" >&2
