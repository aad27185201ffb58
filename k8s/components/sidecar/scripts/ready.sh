#!/usr/bin/env bash
# Succeeds if this proxy may receive requests: Envoy reports itself healthy, and the entry port is open.
set -euo pipefail

exec 3<>"/dev/tcp/127.0.0.1/${READY_PORT}"
printf 'GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
read -r status <&3
[[ $status == "HTTP/1.1 200 "* ]]

exec 4<>"/dev/tcp/127.0.0.1/${ENTRY_PORT}"
