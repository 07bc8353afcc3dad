#!/bin/sh
# Answers every HTTP request on port 8080 with the name of the pod.
exec socat TCP-LISTEN:8080,fork,reuseaddr SYSTEM:'read -r _; printf "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n%s\n" "$HOSTNAME"'
