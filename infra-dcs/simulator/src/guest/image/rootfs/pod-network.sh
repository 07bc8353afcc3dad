#!/bin/sh
# Gives pods a network without a CNI of the cluster's own: the bridge plugin on the node's podCIDR, and one route to
# each other node. Learns both from the Node objects. Stands back as soon as another CNI has put its configuration.
set -eu
conf=/etc/cni/net.d/90-pod-network.conflist
# A name that neither containerd nor the test for other CNIs sees.
hidden=/etc/cni/net.d/.pod-network.tmp
kubelet=/etc/kubernetes/kubelet.conf
admin=/etc/kubernetes/admin.conf
# Where kubectl keeps what it learnt of the API.
export HOME=/run/pod-network
self=$(hostname | tr '[:upper:]' '[:lower:]')

stand_back_for_other_cni() {
	for file in /etc/cni/net.d/*; do
		if [ -e "$file" ] && [ "$file" != "$conf" ]; then
			rm -f "$conf"
			exit 0
		fi
	done
}

# Any answer will do. A connection that is refused costs a hundredth of kubectl's start, and a machine that boots has
# better things to do.
api_answers() {
	server=$(sed -n 's/^ *server: *//p' "$kubelet")
	curl --silent --insecure --max-time 2 --output /dev/null "$server/healthz"
}

# Nodes may read only themselves (node authorizer); routes need them all.
allow_nodes_to_list() {
	kubectl --kubeconfig "$admin" apply -f /usr/share/sandbox/pod-network-rbac.yaml >/dev/null 2>&1
}

nodes() {
	kubectl --kubeconfig "$kubelet" get nodes "$@" 2>/dev/null
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

# Reads lines of `event|name|podCIDR|address` and does what they mean for this node.
follow() {
	while IFS='|' read -r event name cidr address; do
		stand_back_for_other_cni
		[ -n "$cidr" ] || continue
		if [ "$name" = "$self" ]; then
			[ -s "$conf" ] || write_conf "$cidr"
		elif [ "$event" = DELETED ]; then
			ip route del "$cidr" proto 99 2>/dev/null || true
		elif [ -n "$address" ]; then
			ip route replace "$cidr" via "$address" proto 99 2>/dev/null || true
		fi
	done
}

# Routes of nodes that went while nobody watched. Takes the podCIDRs of all nodes.
forget_gone_nodes() {
	ip route show proto 99 | while read -r cidr rest; do
		case " $* " in *" $cidr "*) ;; *) ip route del "$cidr" proto 99 ;; esac
	done
}

node='{.object.metadata.name}|{.object.spec.podCIDR}|{.object.status.addresses[?(@.type=="InternalIP")].address}'
allowed=no
while sleep 1; do
	stand_back_for_other_cni
	if [ ! -s "$kubelet" ] || ! api_answers; then continue; fi
	if [ "$allowed" = no ] && [ -s "$admin" ]; then allow_nodes_to_list && allowed=yes; fi
	# The node itself first: its podCIDR is all that its own pods need, and it may read itself before it may read others.
	nodes --request-timeout=5s "$self" -o 'jsonpath=ADDED|{.metadata.name}|{.spec.podCIDR}|{"\n"}' | follow
	cidrs=$(nodes --request-timeout=5s -o 'jsonpath={.items[*].spec.podCIDR}') || continue
	# shellcheck disable=SC2086 # They are words.
	forget_gone_nodes $cidrs
	# Begins with all nodes and then tells what changes; ends now and then, so that nothing is missed for long.
	nodes --request-timeout=300s --watch --output-watch-events -o "jsonpath={.type}|$node{\"\\n\"}" | follow
done
