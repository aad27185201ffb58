#!/usr/bin/env bash
# Drains this proxy: fails its health check, then waits until no user request is in flight through it.
#
# Copied requests to a shadow are not waited for, because no user receives their responses.
# Needs only bash, cat and sleep: the proxy's image has no curl.
#
# ADMIN_PORT            port of the proxy's admin interface, on loopback
# DRAIN_SETTLE_SECONDS  how long clients and other proxies need to detect the failed health check; new requests may
#                       arrive during that time
# DRAIN_LIMIT_SECONDS   when to stop waiting, in seconds after the start of this script
set -euo pipefail

admin() { # METHOD PATH: print the response of the admin interface
  exec 3<>"/dev/tcp/127.0.0.1/${ADMIN_PORT}"
  printf '%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n' "$1" "$2" >&3
  cat <&3
  exec 3>&-
}

active() { # print the number of user requests without a complete response
  local line total=0
  while read -r line; do
    if [[ $line =~ ^http\.(entry|serve)\.downstream_rq_active:\ ([0-9]+) ]]; then
      total=$((total + BASH_REMATCH[2]))
    fi
  done < <(admin GET '/stats?filter=downstream_rq_active')
  printf '%s\n' "$total"
}

admin POST /healthcheck/fail >/dev/null
sleep "$DRAIN_SETTLE_SECONDS"
while ((SECONDS < DRAIN_LIMIT_SECONDS)) && (($(active) > 0)); do
  sleep 1
done
