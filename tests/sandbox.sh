#!/bin/sh
# Runs a command where workspaces have their sandbox: tests/sandbox.sh COMMAND [ARGUMENT...]
# As root bubblewrap is installed from the distribution when it is missing.
set -eu

if ! command -v bwrap >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "sandbox.sh: installing bubblewrap" >&2
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends bubblewrap >&2
fi
command -v bwrap >/dev/null || { echo "sandbox.sh: no bwrap found; install bubblewrap" >&2; exit 1; }

exec "$@"
