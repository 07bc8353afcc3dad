#!/bin/sh
# Answers every HTTP request on port 8080 with the name of the pod.
if [ "${1:-}" != answer ]; then exec socat TCP-LISTEN:8080,fork,reuseaddr EXEC:"$0 answer"; fi
# A request ends with an empty line; answering before would reset the connection.
while read -r line && [ "$line" != "$(printf '\r')" ] && [ -n "$line" ]; do :; done
printf 'HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n%s\n' "$HOSTNAME"
