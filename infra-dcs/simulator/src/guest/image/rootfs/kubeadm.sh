#!/bin/sh
# Stands before kubeadm for what this machine's kernel cannot offer; arguments and configuration are untouched.
case "$1" in
init | join)
	# A data disk may have been mounted there after containerd had opened its database on the system disk.
	if mountpoint -q /var/lib/containerd; then systemctl restart containerd.service; fi
	# SystemVerification refuses cgroup v1.
	command=$1
	shift
	exec /usr/lib/sandbox/kubeadm "$command" --ignore-preflight-errors=SystemVerification "$@"
	;;
esac
exec /usr/lib/sandbox/kubeadm "$@"
