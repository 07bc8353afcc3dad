#!/bin/sh
# net.netfilter.nf_conntrack_max belongs to the host's first network namespace: leave that one setting alone.
set -e
for argument; do
	shift
	case "$argument" in
	--config=*)
		sed -E 's/^([[:space:]]+maxPerCore:).*$/\1 0/' "${argument#--config=}" >/tmp/kube-proxy.conf
		argument=--config=/tmp/kube-proxy.conf
		;;
	esac
	set -- "$@" "$argument"
done
exec /usr/local/bin/kube-proxy.real "$@"
