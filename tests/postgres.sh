#!/bin/sh
# Runs a command beside a throw-away PostgreSQL: tests/postgres.sh COMMAND [ARGUMENT...]
# The address is in TASKLOOM_TEST_POSTGRES while it runs; afterwards nothing of the cluster is left.
# As root it is installed from the distribution when it is missing, and runs as another user: it refuses root.
set -eu

find_bin() { ls -d /usr/lib/postgresql/*/bin /usr/local/pgsql/bin 2>/dev/null | sort -V | tail -n 1; }

BIN=$(find_bin)
if [ -z "$BIN" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "postgres.sh: installing PostgreSQL" >&2
    apt-get update -qq >&2
    # Only the programs are wanted, not a cluster that starts by itself.
    mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends postgresql >&2
    BIN=$(find_bin)
fi
if [ -z "$BIN" ]; then
    echo "postgres.sh: no PostgreSQL found; install the package 'postgresql'" >&2
    exit 1
fi

if [ "$(id -u)" = 0 ]; then
    OWNER=postgres
    id "$OWNER" >/dev/null 2>&1 || OWNER=nobody
    as_owner() { runuser -u "$OWNER" -- "$@"; }
else
    OWNER=$(id -un)
    as_owner() { "$@"; }
fi

PLACE=$(mktemp -d /tmp/taskloom-postgres.XXXXXX)
[ "$(id -u)" != 0 ] || chown "$OWNER" "$PLACE"
stop() {
    as_owner "$BIN/pg_ctl" -D "$PLACE/data" -m immediate -w stop >/dev/null 2>&1 || true
    rm -rf "$PLACE"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

as_owner "$BIN/initdb" -D "$PLACE/data" -U taskloom --auth=trust --encoding=UTF8 --locale=C.UTF-8 >"$PLACE/log" 2>&1 ||
    { cat "$PLACE/log" >&2; exit 1; }
# Only a socket in our own folder: no port to clash with anybody's. fsync is for data that is kept.
as_owner "$BIN/pg_ctl" -D "$PLACE/data" -l "$PLACE/server.log" -w -t 60 \
    -o "-c listen_addresses= -c unix_socket_directories=$PLACE -c fsync=off -c max_connections=200" \
    start >/dev/null 2>&1 || { cat "$PLACE/server.log" >&2; exit 1; }
chmod 0755 "$PLACE"

status=0
TASKLOOM_TEST_POSTGRES="postgresql://taskloom@/postgres?host=$PLACE" "$@" || status=$?
exit "$status"
