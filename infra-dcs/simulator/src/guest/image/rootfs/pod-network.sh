#!/bin/sh
# Gives pods a network without a CNI of the cluster's own: the bridge plugin on the node's podCIDR, and one route to
# each other node. Learns both from the Node objects. Stands back as soon as another CNI has put its configuration.
set -eu
conf=/etc/cni/net.d/90-pod-network.conflist
# A name that neither containerd nor the test for other CNIs sees.
hidden=/etc/cni/net.d/.pod-network.tmp
kubelet=/etc/kubernetes/kubelet.conf
admin=/etc/kubernetes/admin.conf

other_cni() {
	for file in /etc/cni/net.d/*; do
		[ -e "$file" ] && [ "$file" != "$conf" ] && return 0
	done
	return 1
}

# Nodes may read only themselves (node authorizer); routes need them all.
allow_nodes_to_list() {
	kubectl --kubeconfig "$admin" apply -f /usr/share/sandbox/pod-network-rbac.yaml >/dev/null 2>&1
}

write_conf() {
	mkdir -p /etc/cni/net.d
	cat >"$hidden" <<EOF
{"cniVersion": "0.4.0", "name": "pod-network", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$1"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
EOF
	mv "$hidden" "$conf"
	echo "pods of this node get addresses of $1"
}

line='{range .items[*]}{.metadata.name} {.spec.podCIDR} {.status.addresses[?(@.type=="InternalIP")].address}{"\n"}{end}'
self=$(hostname | tr '[:upper:]' '[:lower:]')
allowed=no
pause=1
while :; do
	sleep "$pause"
	[ -s "$kubelet" ] || continue
	if other_cni; then
		rm -f "$conf"
		exit 0
	fi
	if [ "$allowed" = no ] && [ -s "$admin" ]; then allow_nodes_to_list && allowed=yes; fi
	# The node itself first: its podCIDR is all that its own pods need.
	if [ ! -s "$conf" ]; then
		own=$(kubectl --kubeconfig "$kubelet" --request-timeout=5s get node "$self" -o 'jsonpath={.spec.podCIDR}' 2>/dev/null) || continue
		[ -n "$own" ] && write_conf "$own"
	fi
	nodes=$(kubectl --kubeconfig "$kubelet" --request-timeout=5s get nodes -o "jsonpath=$line" 2>/dev/null) || continue
	echo "$nodes" | while read -r name cidr address rest; do
		[ "$name" != "$self" ] && [ -n "$address" ] || continue
		ip route replace "$cidr" via "$address" proto 99 2>/dev/null || true
	done
	# Routes of nodes that are gone.
	ip route show proto 99 | while read -r cidr rest; do
		case "$nodes" in *" $cidr "*) ;; *) ip route del "$cidr" proto 99 ;; esac
	done
	if [ -s "$conf" ]; then pause=3; fi
done
