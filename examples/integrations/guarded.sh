#!/usr/bin/env bash
# A tool of an agent as a shell script: deletes the files that it is given, one a line on stdin, if it may.
# CHECKREIN_URL and CHECKREIN_API_KEY say where to ask; WAIT is how many seconds a person has to answer a hold.
set -euo pipefail

mapfile -t files
json=$(printf '%s\n' "${files[@]}" | python3 -c '
import json, sys
names = sys.stdin.read().splitlines()
print(json.dumps({"paths": names, "record_count": len(names)}))')

# `if` and not `|| true`: only exit code 0 means that it may run.
if said=$(checkrein check --tool delete_files --arguments - --wait "${WAIT:-0}" <<<"$json"); then
  rm -- "${files[@]}"
  echo "deleted ${#files[@]}"
else
  case $? in
    3) echo "NOT RUN, blocked: $said" ;;
    4) echo "NOT RUN, waits for a person: $said" ;;
    *) echo "NOT RUN, could not be checked" ;;
  esac
  exit 1
fi
