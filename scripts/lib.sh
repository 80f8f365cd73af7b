# Shared by the scripts of this folder: `. "$(dirname "$0")/lib.sh"`. Leaves the caller in the repository's root.
# shellcheck shell=bash

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# What a script keeps between runs: logs, stamps, nothing that cannot be made again.
work=.work
mkdir -p "$work"

# say TEXT…: progress, on stderr so that stdout stays for results.
say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }

# die TEXT…: what went wrong and what to do about it, then exit 1.
die() {
	printf '%s: %s\n' "$(basename "$0")" "$*" >&2
	exit 1
}

# have PROGRAM: it is on the path.
have() { command -v "$1" >/dev/null; }

# engine_answers: a Docker Engine serves our calls.
engine_answers() { timeout 10 docker info >/dev/null 2>&1; }

# wait_until SECONDS COMMAND…: poll COMMAND until it succeeds; fails when SECONDS have passed.
wait_until() {
	local deadline=$((SECONDS + $1))
	shift
	until "$@"; do
		((SECONDS < deadline)) || return 1
		sleep 0.2
	done
}

# pass_on_interruptions: jobs begun from now on are interrupted once when this script is told to end, and waited for.
# They are process groups of their own: a terminal's Ctrl-C would come to them beside ours, and a second one ends tests
# in the middle of their clearing up.
pass_on_interruptions() {
	set -m
	trap 'kill -INT $(jobs -p); wait' INT TERM HUP
}

# compose ARGS…: Compose v2 as a plugin, else as a program, else the stand-alone 1.29.
compose() {
	if docker compose version >/dev/null 2>&1; then
		docker compose "$@"
	else
		docker-compose "$@"
	fi
}

# have_compose: either of them is here.
have_compose() { docker compose version >/dev/null 2>&1 || have docker-compose; }
