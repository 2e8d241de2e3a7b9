# Whether the server answers: it does so once it has done its init-file. Who is refused was answered, too.
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
socket=/var/run/mysqld/mysqld.sock login=/etc/tidemark/root/client.cnf
admin=$(command -v mariadb-admin || command -v mysqladmin) || { test -S "$socket"; exit; }
if [ -r "$login" ]; then login=--defaults-file=$login; else login=--no-defaults; fi
exec "$admin" "$login" --protocol=socket --socket="$socket" --connect-timeout=3 ping
