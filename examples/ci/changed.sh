#!/bin/sh
# The folders below models/ that differ between two commits and are still there, one a line; all of them when the
# first commit is not known (the first push of a branch, a shallow clone).
#   changed.sh BEFORE AFTER
# It fails when git does: a pipeline must not be green because nobody could tell what changed.
set -eu
listed() { git -c core.quotePath=false "$@" -- models; }
if git cat-file -e "$1^{commit}" 2>/dev/null; then
  found=$(listed diff --name-only "$1" "$2")
else
  found=$(listed ls-tree -r --name-only "$2")
fi
printf '%s\n' "$found" | cut -d/ -f1-2 | sort -u | while read -r folder; do
  [ ! -d "$folder" ] || echo "$folder"
done
