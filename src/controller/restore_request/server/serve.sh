# Runs the server of /var/lib/mysql/data in the foreground. Arguments: further options of the server.
set -eu
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
volume=/var/lib/mysql run=/var/run/mysqld

# A base is loaded without MySQL's redo log. One that was killed meanwhile (a lost node, want of memory) can never be started again, and says
# so: what it holds is but half a base, and it begins anew, empty.
errors=$volume/tmp/errors.log
if [ "$TIDEMARK_STAGE" = shut ] && [ "$TIDEMARK_FLAVOR" = mysql ]; then
  if [ ! -e "$volume/restored.json" ] && grep -q MY-013598 "$errors" 2>/dev/null; then
    echo "the server was killed while its redo log was off: beginning anew with an empty one" >&2
    rm -rf "$volume/new" "$volume/data"
    mysqld --datadir="$volume/new" --tmpdir="$volume/tmp" --secure-file-priv=NULL "$@" --initialize-insecure
    sync
    mv "$volume/new" "$volume/data"
    sync
  fi
fi

# Left by a server that was killed in this pod. A lock names its process, and process 1 is always alive.
rm -f "$run"/* /tmp/mysqlx.sock*

case $TIDEMARK_FLAVOR in
mysql)
  server=$(command -v mysqld)
  set -- --gtid-mode=ON --enforce-gtid-consistency=ON --secure-file-priv=NULL "$@"
  ;;
mariadb)
  server=$(command -v mariadbd || command -v mysqld)
  set -- --binlog-format=ROW "$@"
  ;;
esac
set -- --bind-address='*' --port=3306 --datadir="$volume/data" --tmpdir="$volume/tmp" --socket="$run/mysqld.sock" \
  --pid-file="$run/mysqld.pid" --server-id="$TIDEMARK_SERVER_ID" --log-bin=binlog --relay-log=relay "$@"

case $TIDEMARK_STAGE in
shut)
  # Only who is in this pod can connect, and nothing but the restore changes anything: whatever else the image or the user says.
  # (With the event scheduler DISABLED instead of OFF, MariaDB would not even say which events there are.)
  set -- "$@" --bind-address=127.0.0.1 --skip-networking=OFF --skip-name-resolve --loose-mysqlx=OFF --loose-extra-port=0 \
    --event-scheduler=OFF --loose-skip-slave-start --loose-skip-replica-start --init-file=/etc/tidemark/restore/init.sql
  # What it says last is read above, the next time.
  mkfifo "$run/errors"
  tee "$errors" <"$run/errors" >&2 &
  exec "$server" "$@" 2>"$run/errors"
  ;;
open)
  # Hands the server over, once: see open.sql. The Secret may be gone by then.
  if [ -r /etc/tidemark/root/open.sql ]; then
    set -- "$@" --init-file=/etc/tidemark/root/open.sql
  fi
  ;;
esac
exec "$server" "$@"
