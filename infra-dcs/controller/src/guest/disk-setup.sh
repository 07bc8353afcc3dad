#!/bin/bash
# Formats and mounts this machine's disks. It may run any number of times.
set -euo pipefail

INSTANCE=@INSTANCE@
STATE=/var/lib/disk-setup
WAIT_SECONDS=120
GIB=$((1024 * 1024 * 1024))
SLACK=$((64 * 1024 * 1024))
USED=" "

log() { echo "disk-setup: $*"; }
fail() { echo "disk-setup: $*" >&2; exit 1; }

# Names of whole disks, in the order of their letters: one bus only.
all_disks() {
  local prefix device found=""
  for prefix in vd xvd sd; do
    for device in /dev/"${prefix}"[a-z]; do
      if [ -b "$device" ]; then
        echo "$device"
        found=yes
      fi
    done
    if [ -n "$found" ]; then return; fi
  done
}

# Major and minor number of a disk, as mounts are listed with.
numbers_of() { printf '%d:%d' "0x$(stat -c %t "$1")" "0x$(stat -c %T "$1")"; }

# $1 mount point: the disk of this machine that is mounted there, or nothing. What else may be mounted there (a folder
# of the image, a subvolume) the disk takes the place of.
mounted_disk() {
  local device numbers
  numbers=$(findmnt -n -o MAJ:MIN --mountpoint "$1" | tail -n 1 | tr -d ' ') || return 0
  for device in $(all_disks); do
    if [ "$(numbers_of "$device")" = "$numbers" ]; then
      echo "$device"
      return
    fi
  done
}

size_of() { blockdev --getsize64 "$1" 2>/dev/null || echo 0; }

# $1 device, $2 GiB: whether the size is the declared one.
size_fits() {
  local size
  size=$(size_of "$1")
  [ "$size" -ge $(($2 * GIB - SLACK)) ] && [ "$size" -lt $((($2 + 1) * GIB)) ]
}

is_unused() { [[ "$USED" != *" $1 "* ]]; }

# $1 order after the system disk, $2 GiB, $3 serial: prints the device, or nothing.
find_device() {
  local device name position=0 fitting=()
  for device in $(all_disks); do
    name=${device#/dev/}
    if [ -n "$3" ] && [ -r "/sys/block/$name/serial" ] && [ "$(cat "/sys/block/$name/serial")" = "$3" ]; then
      echo "$device"
      return
    fi
  done
  # The system disk has the first letter, whether the machine shows it or not.
  case $(all_disks | head -n 1) in
    *a) position=0 ;;
    *) position=1 ;;
  esac
  for device in $(all_disks); do
    if [ "$position" -gt 0 ] && is_unused "$device" && size_fits "$device" "$2"; then
      if [ "$position" -eq "$1" ]; then
        echo "$device"
        return
      fi
      fitting+=("$device")
    fi
    position=$((position + 1))
  done
  # A hole in the sequence shifts letters: then only a size that names one disk is sure.
  if [ "${#fitting[@]}" -eq 1 ]; then echo "${fitting[0]}"; fi
}

# $1 device: the type of what it holds; nothing when it is blank. What is not certain counts as data.
content_of() {
  local found="" status=0
  found=$(blkid -p -o value -s TYPE "$1") || status=$?
  if [ "$status" -ne 0 ] && [ "$status" -ne 2 ]; then
    fail "blkid cannot tell what is on $1 (status $status); not touching it"
  fi
  if [ -z "$found" ] && [ -n "$(blkid -p -o value -s PTTYPE "$1" || true)" ]; then
    fail "$1 holds a partition table and no file system; not touching it"
  fi
  echo "$found"
}

# $1 device, $2 mount point, $3 file system, $4 mount options
mount_disk() {
  local uuid
  uuid=$(blkid -p -o value -s UUID "$1") || fail "$1 has no UUID"
  mkdir -p "$2"
  touch /etc/fstab
  if ! grep -q "^UUID=$uuid " /etc/fstab; then
    echo "UUID=$uuid $2 $3 $4 0 2" >> /etc/fstab
  fi
  if [ -z "$(mounted_disk "$2")" ]; then
    mount -t "$3" -o "$4" "$1" "$2"
  fi
  if command -v restorecon > /dev/null; then
    restorecon -R "$2" || log "restorecon $2 failed"
  fi
}

# Order, sequence, GiB, serial, mount point, file system, mount options, wipe|keep, data|new, options of mkfs.
setup_disk() {
  local order=$1 sequence=$2 gib=$3 serial=$4 path=$5 format=$6 mount_options=$7 wipe=$8 expects=$9
  shift 9
  local device="" waited=0
  if [ -n "$path" ]; then device=$(mounted_disk "$path"); fi
  if [ -n "$device" ]; then
    USED="$USED$device "
    log "disk $sequence is mounted at $path"
    return
  fi
  while true; do
    device=$(find_device "$order" "$gib" "$serial")
    if [ -n "$device" ]; then break; fi
    if [ "$waited" -ge "$WAIT_SECONDS" ]; then
      fail "disk $sequence of $gib GiB did not appear in $WAIT_SECONDS s; there are: $(all_disks | tr '\n' ' ')"
    fi
    sleep 2
    waited=$((waited + 2))
  done
  USED="$USED$device "
  if [ -z "$format" ]; then
    log "disk $sequence is $device; left raw"
    return
  fi
  local marker="$STATE/$INSTANCE-$sequence.wiped"
  if [ "$wipe" = wipe ] && [ ! -e "$marker" ]; then
    log "wiping $device (disk $sequence) for a new machine"
    wipefs -a -q "$device"
    mkdir -p "$STATE"
    touch "$marker"
  fi
  local found
  found=$(content_of "$device")
  if [ -z "$found" ]; then
    if [ "$expects" = data ]; then
      fail "disk $sequence ($device) should hold data and shows no file system; not formatting it"
    fi
    log "making $format on $device (disk $sequence)"
    "mkfs.$format" "$@" "$device"
    found=$format
  else
    log "keeping the $found on $device (disk $sequence)"
  fi
  if [ -n "$path" ]; then
    mount_disk "$device" "$path" "$found" "$mount_options"
  fi
}

# Logs of pods can fill a disk: they belong on the one that containerd has to itself.
link_pod_logs() {
  mkdir -p /var/lib/containerd/pods /var/log
  if [ -L /var/log/pods ]; then return; fi
  if [ -d /var/log/pods ]; then
    cp -a /var/log/pods/. /var/lib/containerd/pods/
    rm -rf /var/log/pods
  fi
  ln -s /var/lib/containerd/pods /var/log/pods
}

@DISKS@
