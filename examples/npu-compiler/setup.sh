#!/usr/bin/env bash
# Intel's NPU compiler on Linux, without an NPU: the one that OpenVINO's Windows package brings, run by wine.
#
#   examples/npu-compiler/setup.sh TARGET           about 2 minutes, 350 MB of downloads, 1.5 GB on disk
#   export EDGEFLEET_NPU_COMPILER=TARGET/npu-compile
#   edge-convert build ... --profile intel-npu-meteor-lake
#
# Needs an amd64 Debian host with apt-get, dpkg-deb, unzip and a Python with pip (PYTHON, else python3).
# Packages are unpacked below TARGET, never installed, and no root is needed. Whether Intel's terms let you
# pass the library on was not looked into: everyone fetches their own, and it is in no repository of ours.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
T=$(mkdir -p "${1:?target folder}" && cd "$1" && pwd)
OPENVINO=${OPENVINO:-2026.4.1}
PYTHON=${PYTHON:-python3}
pip_download() { # pip_download FOLDER ARGUMENT...
  local folder=$1
  shift
  "$PYTHON" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$folder" "$@"
}

mkdir -p "$T/wheels" "$T/openvino" "$T/zig" "$T/root"
pip_download "$T/wheels" --platform win_amd64 --python-version 3.11 --only-binary :all: "openvino==$OPENVINO"
pip_download "$T/wheels" ziglang
unzip -qo "$T"/wheels/openvino-*.whl -d "$T/openvino"
unzip -qo "$T"/wheels/ziglang-*.whl -d "$T/zig"
chmod +x "$T/zig/ziglang/zig"
libs=$T/openvino/openvino/libs

state=$T/apt
mkdir -p "$state"/{lists,cache/archives}/partial
: >"$state/status"
options=(-qq -o APT::Architecture=amd64 -o APT::Architectures=amd64 -o Dir::State="$state"
  -o Dir::State::status="$state/status" -o Dir::State::lists="$state/lists" -o Dir::Cache="$state/cache"
  -o APT::Sandbox::User="$(id -un)" -o APT::Install-Recommends=0)
apt-get "${options[@]}" update
apt-get "${options[@]}" -y --download-only install wine64 libz-mingw-w64 >/dev/null
for package in "$state"/cache/archives/*.deb; do dpkg-deb -x "$package" "$T/root"; done
rm -rf "$state" "$T/wheels" "$T/root/usr/share/doc" "$T/root/usr/share/man"
wine=$T/root/usr/lib/wine
ln -sf wineserver64 "$wine/wineserver" # Debian's is a script that looks for an installed wine
# Debian's wine wants a zlib1.dll among its own, and does not start without
cp "$T/root/usr/x86_64-w64-mingw32/lib/zlib1.dll" "$T/root/usr/lib/x86_64-linux-gnu/wine/x86_64-windows/"

export ZIG_GLOBAL_CACHE_DIR=$T/zig/cache ZIG_LOCAL_CACHE_DIR=$T/zig/cache
"$T/zig/ziglang/zig" cc -target x86_64-windows-gnu -O2 -o "$libs/npu_compile.exe" "$here/npu_compile.c" \
  -L"$libs" -l:openvino_c.lib
rm -rf "$T/zig"

cat >"$T/npu-compile" <<SH
#!/bin/sh
# npu-compile MODEL.xml PLATFORM PRECISION OUTPUT.blob: the protocol of edge_convert/device/npu.py
export WINEPREFIX="$T/prefix" WINEDEBUG=-all WINESERVER="$wine/wineserver64"
export WINEDLLPATH="$T/root/usr/lib/x86_64-linux-gnu/wine"
export LD_LIBRARY_PATH="$T/root/usr/lib/x86_64-linux-gnu:$T/root/usr/lib/x86_64-linux-gnu/wine/x86_64-unix"
unset DISPLAY
exec "$wine/wine64" "$libs/npu_compile.exe" "\$1" "\$2" "\$4"
SH
chmod +x "$T/npu-compile"
"$T/npu-compile" >/dev/null 2>&1 || true # makes wine's folder, which takes seconds the first time
echo "export EDGEFLEET_NPU_COMPILER=$T/npu-compile"
