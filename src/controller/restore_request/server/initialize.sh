# Makes an empty server in /var/lib/mysql/data, once. Killed at any moment, it can be begun again. Arguments: options of the server.
set -eu
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
volume=/var/lib/mysql
cd "$volume"

refuse() {
  echo "the volume holds $1: this restore makes a fresh server and touches nothing else. Delete the claim if it is not needed, or make a RestoreRequest of another name" >&2
  exit 1
}

if [ -e request ]; then
  [ "$(cat request)" = "$TIDEMARK_REQUEST" ] || refuse "the server of another RestoreRequest"
else
  for entry in *; do
    case $entry in
    '*' | lost+found | request.new) ;;
    *) refuse "something already ($entry)" ;;
    esac
  done
  echo "$TIDEMARK_REQUEST" >request.new
  sync
  mv request.new request
fi

mkdir -p tmp
if [ ! -d data ]; then
  rm -rf new
  case $TIDEMARK_FLAVOR in
  mysql)
    mysqld --datadir="$volume/new" --tmpdir="$volume/tmp" --secure-file-priv=NULL "$@" --initialize-insecure
    ;;
  mariadb)
    install=$(command -v mariadb-install-db || command -v mysql_install_db)
    "$install" --datadir="$volume/new" --tmpdir="$volume/tmp" --skip-test-db --rpm \
      --auth-root-authentication-method=normal --skip-log-bin "$@"
    # It makes a root without a password for this pod's name and for each address of loopback, which the source may not have.
    server=$(command -v mariadbd || command -v mysqld)
    "$server" --datadir="$volume/new" --tmpdir="$volume/tmp" --skip-log-bin "$@" --bootstrap <<'SQL'
DELETE FROM mysql.global_priv WHERE User = 'root' AND Host <> 'localhost';
DELETE FROM mysql.proxies_priv WHERE Host <> 'localhost';
SQL
    ;;
  esac
  # The name says that it is whole: what it names must be on the disk before.
  sync
  mv new data
  sync
fi
