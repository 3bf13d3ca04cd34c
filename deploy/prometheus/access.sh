#!/bin/sh
# Puts what Prometheus needs into a folder: a viewer's token, as narrow as it can be, and the fleet's authority.
# It runs where the server's home is, while the server runs. A token that is there is kept: remove it for a new one.
#   access.sh FOLDER
set -eu
umask 022
folder=$1
cp "$EDGE_FLEET_HOME/keys/authority.pem" "$folder/ca.pem.part"
chmod 0444 "$folder/ca.pem.part"
mv -f "$folder/ca.pem.part" "$folder/ca.pem"
[ -s "$folder/token" ] && exit 0
edge-fleet token create --role viewer --scope metrics:read --label prometheus >"$folder/token.part"
chmod 0444 "$folder/token.part"
mv -f "$folder/token.part" "$folder/token"
