#!/bin/sh
# Makes the secrets of compose.yaml that are not there yet; none is replaced. They are files, in no environment:
# the folder is closed to others, the files are readable because each container has an account of its own.
#   sh deploy/secrets.sh [FOLDER]
set -eu
folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 0700 "$folder"
for name in database-password grafana-password; do
  [ -s "$folder/$name" ] && continue
  od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$folder/$name.part"
  chmod 0444 "$folder/$name.part"
  mv "$folder/$name.part" "$folder/$name"
  echo "made $folder/$name"
done
