#!/usr/bin/env bash
# Takes this proxy out of service: fails its health, then waits until nobody is served through it any more.
#
# Copies on their way to a shadow are not waited for: they are nobody's answer.
# Needs bash, cat and sleep, and nothing to make requests with: the proxy's image has no curl.
#
# ADMIN_PORT            the proxy's admin pages, on loopback
# DRAIN_SETTLE_SECONDS  how long others need to notice; within it new requests are still expected
# DRAIN_LIMIT_SECONDS   when to stop waiting
set -euo pipefail

ask() { # METHOD PATH: print the answer of the admin pages
  exec 3<>"/dev/tcp/127.0.0.1/${ADMIN_PORT}"
  printf '%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n' "$1" "$2" >&3
  cat <&3
  exec 3>&-
}

active() { # print how many requests came in through this proxy and have no complete answer yet
  local line total=0
  while read -r line; do
    if [[ $line =~ ^http\.(entry|serve)\.downstream_rq_active:\ ([0-9]+) ]]; then
      total=$((total + BASH_REMATCH[2]))
    fi
  done < <(ask GET '/stats?filter=downstream_rq_active')
  printf '%s\n' "$total"
}

ask POST /healthcheck/fail >/dev/null
sleep "$DRAIN_SETTLE_SECONDS"
while ((SECONDS < DRAIN_LIMIT_SECONDS)) && (($(active) > 0)); do
  sleep 1
done
