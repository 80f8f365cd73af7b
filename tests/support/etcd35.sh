#!/bin/sh
# Put etcd 3.5 and its etcdctl, as the demo's image has them, into the folder DIR: tests/support/etcd35.sh DIR
# Go programs need little of the system around them, so Debian 13's run on Debian 12, too.
set -eu
image=etcd-ambassadors/demo-etcd:latest
container=$(docker create "$image")
trap 'docker rm "$container" >/dev/null' EXIT
mkdir -p "$1"
for program in etcd etcdctl; do
	docker cp "$container:/usr/bin/$program" "$1/$program" >/dev/null
done
"$1/etcd" --version | head -n 1
