//! Freshly initialised data directories, made once per configuration and copied for each server.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};
use tidemark::model::Flavor;

use super::server::ROOT_PASSWORD;
use super::tools::tool_dir;

/// Fills `datadir` with an initialised data directory whose root user has [`ROOT_PASSWORD`].
pub fn copy_template(flavor: Flavor, tool: &str, mysqld: &Path, init_args: &[String], datadir: &Path) {
    let template = template(flavor, tool, mysqld, init_args);
    let status =
        Command::new("cp").args(["-a", "--reflink=auto", "--sparse=always"]).arg(&template).arg(datadir).status();
    assert!(status.unwrap().success(), "cannot copy {} to {}", template.display(), datadir.display());
}

fn template(flavor: Flavor, tool: &str, mysqld: &Path, init_args: &[String]) -> PathBuf {
    let mut hash = Sha256::new();
    let version = Command::new(mysqld).args(["--no-defaults", "--version"]).output().unwrap();
    for part in [version.stdout, init_args.join("\n").into_bytes(), root_sql().into_bytes(), STRAY_ROOTS.into()] {
        hash.update(part);
        hash.update([0]);
    }
    let cache = cache_dir();
    fs::create_dir_all(&cache).unwrap();
    let template = cache.join(format!("data-{tool}-{}", &hex::encode(hash.finalize())[..12]));
    let lock = File::create(cache.join(format!(".data-{tool}.lock"))).unwrap();
    lock.lock().unwrap();
    if !template.is_dir() {
        let building = tempfile::tempdir_in(&cache).unwrap();
        let datadir = building.path().join("data");
        match flavor {
            Flavor::Mysql => initialize_mysql(mysqld, init_args, building.path(), &datadir),
            Flavor::Mariadb => initialize_mariadb(tool, mysqld, init_args, building.path(), &datadir),
        }
        fs::rename(&datadir, &template).unwrap();
    }
    template
}

fn cache_dir() -> PathBuf {
    match std::env::var_os("TIDEMARK_CACHE") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/tidemark"),
    }
}

/// A statement a line: MariaDB's bootstrap reads no more at a time.
fn root_sql() -> String {
    format!(
        "CREATE USER 'root'@'%' IDENTIFIED BY '{ROOT_PASSWORD}';\n\
         GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;\n\
         ALTER USER 'root'@'localhost' IDENTIFIED BY '{ROOT_PASSWORD}';\n"
    )
}

/// MariaDB's bootstrap makes a root for 127.0.0.1, ::1 and this machine's name, which would shadow `root@%`.
const STRAY_ROOTS: &str = "DELETE FROM mysql.global_priv WHERE User = 'root' AND Host != 'localhost';\n\
                           DELETE FROM mysql.proxies_priv WHERE Host != 'localhost';\n";

fn initialize_mysql(mysqld: &Path, init_args: &[String], dir: &Path, datadir: &Path) {
    let sql = dir.join("root.sql");
    fs::write(&sql, root_sql()).unwrap();
    let mut command = Command::new(mysqld);
    command.args(["--no-defaults", "--initialize-insecure"]);
    command.args(run_as()).arg(argument("--datadir", datadir)).arg(argument("--init-file", &sql)).args(init_args);
    run(command, "");
    fs::remove_file(datadir.join("auto.cnf")).unwrap(); // each copy makes its own server_uuid
}

fn initialize_mariadb(tool: &str, mysqld: &Path, init_args: &[String], dir: &Path, datadir: &Path) {
    let mut root = format!("{STRAY_ROOTS}FLUSH PRIVILEGES;\n{}", root_sql());
    let unpacked = tool_dir(tool).join("bootstrap.sql");
    if unpacked.is_file() {
        fs::create_dir(datadir).unwrap();
        root.insert_str(0, &fs::read_to_string(unpacked).unwrap());
    } else {
        let script = super::tool(tool, &["mariadb-install-db", "mysql_install_db"]);
        let mut command = Command::new(script);
        command.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        command.args(run_as()).arg(argument("--basedir", &tool_dir(tool))).arg(argument("--datadir", datadir));
        command.args(init_args);
        run(command, "");
    }
    let mut command = Command::new(mysqld);
    command.args(["--no-defaults", "--bootstrap"]).args(run_as()).arg(argument("--datadir", datadir));
    command.arg(argument("--tmpdir", dir)).args(init_args);
    run(command, &root);
}

/// As root, a server wants to be told that this is meant.
pub fn run_as() -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    (fs::metadata("/proc/self").unwrap().uid() == 0).then(|| "--user=root".to_owned())
}

pub fn argument(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

fn run(mut command: Command, stdin: &str) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let stdin = stdin.to_owned();
    let feeder = std::thread::spawn(move || pipe.write_all(stdin.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let _ = feeder.join().unwrap(); // a server that gave up early says why on stderr
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed ({})\n{text}", output.status);
}
