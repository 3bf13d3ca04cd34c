#!/bin/sh
# The folders below models/ that differ between two commits and are still there, one a line; all of them when the
# first commit is not known (the first push of a branch, a shallow clone).
#   changed.sh BEFORE AFTER
set -eu
if git cat-file -e "$1^{commit}" 2>/dev/null; then
  git diff --name-only "$1" "$2" -- models
else
  git ls-tree -r --name-only "$2" -- models
fi | cut -d/ -f1-2 | sort -u | while read -r folder; do
  [ ! -d "$folder" ] || echo "$folder"
done
