#!/usr/bin/env bash
# Succeeds if clients may be sent to this proxy: it calls itself healthy, and its entry port is open.
set -euo pipefail

exec 3<>"/dev/tcp/127.0.0.1/${READY_PORT}"
printf 'GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
read -r status <&3
[[ $status == "HTTP/1.1 200 "* ]]

exec 4<>"/dev/tcp/127.0.0.1/${ENTRY_PORT}"
