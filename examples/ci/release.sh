#!/usr/bin/env bash
# One model from a commit to a canary: convert, judge, sign, publish, roll out to a few. What github-actions.yml and
# gitlab-ci.yml call, and what you can run by hand:
#
#   examples/ci/release.sh models/digits 1.4.0
#
# The folder has a model.* (see edge-convert build --help), calibration.npz, evaluation.npz, canary.yaml (a plan, see
# edge-fleet rollout plan --new) and, if the defaults do not suit, pipeline.conf with PROFILES and BUILD_OPTIONS.
#
#   EDGE_FLEET_SERVER           https://fleet.example; EDGE_FLEET_CA is its authority, when the system does not know it
#   SIGN_KEY_FILE               private.pem of the publisher (edge-convert keygen)
#   PUBLISHER_TOKEN_FILE        edge-fleet token create --role publisher --scope releases:write
#   OPERATOR_TOKEN_FILE         edge-fleet token create --role operator --scope rollouts:write
#   OUTPUT                      bundles and the report come here [./out]
#   CANARY_WAIT                 seconds to wait until the first stage has passed; 0 starts it and leaves it [3600]
#
# Exit codes: 0 done; 1 the server refuses, or the canary was taken back; 2 something is missing; 3 a gate of the
# conversion fails. With 2 and 3 nothing was published.
set -euo pipefail

die() { code=$1; shift; echo "release: $*" >&2; exit "$code"; }
step() { echo "== $*"; }

[ $# = 2 ] || die 2 "usage: release.sh FOLDER VERSION"
folder=${1%/} version=$2
name=${NAME:-$(basename "$folder")}
output=${OUTPUT:-out}
wait_s=${CANARY_WAIT:-3600}
[[ "$wait_s" =~ ^[0-9]+$ ]] || die 2 "CANARY_WAIT is '$wait_s', expected seconds"
PROFILES="arm-cpu"
BUILD_OPTIONS=()

for variable in EDGE_FLEET_SERVER SIGN_KEY_FILE PUBLISHER_TOKEN_FILE OPERATOR_TOKEN_FILE; do
  [ -n "${!variable:-}" ] || die 2 "$variable is not set; the first lines of this script say what it is"
done
for file in "$SIGN_KEY_FILE" "$PUBLISHER_TOKEN_FILE" "$OPERATOR_TOKEN_FILE" \
  "$folder/calibration.npz" "$folder/evaluation.npz" "$folder/canary.yaml"; do
  [ -s "$file" ] || die 2 "$file is missing or empty"
done
models=("$folder"/model.*)
[ ${#models[@]} = 1 ] && [ -e "${models[0]}" ] || die 2 "$folder has ${#models[@]} files model.*, expected one"
# shellcheck disable=SC1091
[ ! -e "$folder/pipeline.conf" ] || . "$folder/pipeline.conf"
profiles=()
for profile in $PROFILES; do profiles+=(--profile "$profile"); done

step "the plan"
edge-fleet rollout plan "$folder/canary.yaml" >/dev/null || exit 2

step "convert $name $version for $PROFILES"
rm -rf "$output" && mkdir -p "$output"
if ! edge-convert build "${models[0]}" "${profiles[@]}" --name "$name" --version "$version" \
  --calibration "$folder/calibration.npz" --evaluation "$folder/evaluation.npz" \
  --sign-key "$SIGN_KEY_FILE" --output "$output" ${BUILD_OPTIONS[@]+"${BUILD_OPTIONS[@]}"}; then
  # the report is written whenever something was measured; without it the model was not even read
  [ -e "$output/report.html" ] || die 2 "$name $version could not be converted; nothing was published"
  die 3 "$name $version fails its gates; nothing was published, see $output/report.html"
fi

step "publish"
EDGE_FLEET_TOKEN=$(cat "$PUBLISHER_TOKEN_FILE") edge-fleet release publish "$output"/*.bundle --server "$EDGE_FLEET_SERVER"

step "canary"
made=$(EDGE_FLEET_TOKEN=$(cat "$OPERATOR_TOKEN_FILE") edge-fleet rollout create --server "$EDGE_FLEET_SERVER" \
  --plan "$folder/canary.yaml" --release "$name@$version" --start --json)
rollout=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])' <<<"$made")
echo "$EDGE_FLEET_SERVER/console/rollouts/$rollout"
echo "$rollout" >"$output/rollout"
if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then
  echo "**$name $version**: published, canary [$rollout]($EDGE_FLEET_SERVER/console/rollouts/$rollout)" >>"$GITHUB_STEP_SUMMARY"
fi
[ "$wait_s" = 0 ] ||
  EDGE_FLEET_TOKEN=$(cat "$OPERATOR_TOKEN_FILE") edge-fleet rollout wait "$rollout" --stage 1 --timeout "$wait_s" \
    --server "$EDGE_FLEET_SERVER"
