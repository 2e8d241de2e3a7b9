//! A proxy before an S3 server that fails as networks and stores do: requests that are lost before or after they took effect, bodies that are
//! cut off either way, 500 and 503, waits, short outages, listings of a moment ago, a clock that is minutes off, and logins that expire.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// How a request fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    LostBefore,
    LostAfter,
    TornRequest,
    TornResponse,
    InternalError,
    SlowDown,
    Wait,
    StaleList,
    Outage,
}

const FAULTS: [Fault; 8] = [
    Fault::LostBefore,
    Fault::LostAfter,
    Fault::TornRequest,
    Fault::TornResponse,
    Fault::InternalError,
    Fault::SlowDown,
    Fault::Wait,
    Fault::StaleList,
];
/// A listing this old may still be given.
const STALE: Duration = Duration::from_secs(3);
const OUTAGE_MS: std::ops::Range<u64> = 300..2500;
/// As far as a store's clock may be off: it turns away who signs by another one than that.
const SKEW_S: std::ops::Range<i64> = -14 * 60..14 * 60;

/// Requests by what stores ask for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// PUT, POST and LIST.
    pub writes: u64,
    /// GET and HEAD.
    pub reads: u64,
    pub deletes: u64,
}

impl Requests {
    fn count(&mut self, head: &str, lists: bool) {
        let kind = match head.split(' ').next() {
            Some("DELETE") => &mut self.deletes,
            Some("GET" | "HEAD") if !lists => &mut self.reads,
            _ => &mut self.writes,
        };
        *kind += 1;
    }
}

impl std::ops::Add for Requests {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        let (writes, reads) = (self.writes + more.writes, self.reads + more.reads);
        Self { writes, reads, deletes: self.deletes + more.deletes }
    }
}

impl std::ops::Sub for Requests {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        let (writes, reads) = (self.writes - before.writes, self.reads - before.reads);
        Self { writes, reads, deletes: self.deletes - before.deletes }
    }
}

/// A running proxy. It ends with the process.
pub struct Faults {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: String,
    /// Share of requests that do not fare well.
    share: f64,
    /// How far the store's clock is ahead of everybody's in seconds.
    skew_s: i64,
    /// The access key of a login that has expired.
    expired: Mutex<Option<String>>,
    /// What it takes of all that is being stored; none: as much as comes.
    bytes_per_second: Option<u64>,
    calm: AtomicBool,
    state: Mutex<State>,
}

struct State {
    random: StdRng,
    outage_until: Instant,
    /// Until then everything that has come so far is on its way.
    busy_until: Instant,
    listings: BTreeMap<String, (Instant, Vec<u8>)>,
    requests: Requests,
    met: BTreeMap<Fault, u64>,
}

impl Faults {
    /// Before the server at `endpoint` (`http://host:port`).
    pub fn before(endpoint: &str, share: f64, seed: u64) -> Faults {
        Faults::start(endpoint, share, seed, None)
    }

    /// Before a server that nothing is wrong with but that it takes no more than this.
    pub fn slow(endpoint: &str, bytes_per_second: u64) -> Faults {
        Faults::start(endpoint, 0.0, 0, Some(bytes_per_second))
    }

    fn start(endpoint: &str, share: f64, seed: u64, bytes_per_second: Option<u64>) -> Faults {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut random = StdRng::seed_from_u64(seed);
        let skew_s = if share > 0.0 { random.random_range(SKEW_S) } else { 0 };
        let state = State {
            random,
            outage_until: Instant::now(),
            busy_until: Instant::now(),
            listings: BTreeMap::new(),
            requests: Requests::default(),
            met: BTreeMap::new(),
        };
        let upstream = endpoint.strip_prefix("http://").expect("an endpoint without TLS").to_owned();
        let calm = AtomicBool::new(false);
        let (expired, state) = (Mutex::new(None), Mutex::new(state));
        let shared = Arc::new(Shared { upstream, share, skew_s, expired, bytes_per_second, calm, state });
        let all = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = all.clone();
                // Whatever breaks here is one more fault.
                std::thread::spawn(move || drop(shared.serve(client)));
            }
        });
        Faults { port, shared }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on everything fares well.
    pub fn calm(&self) {
        self.shared.calm.store(true, Ordering::SeqCst);
    }

    /// From now on this login has expired.
    pub fn expire(&self, access_key: &str) {
        *self.shared.expired.lock().unwrap() = Some(access_key.to_owned());
    }

    /// What has come so far.
    pub fn requests(&self) -> Requests {
        self.shared.state.lock().unwrap().requests
    }

    /// What was met, in words.
    pub fn told(&self) -> String {
        let state = self.shared.state.lock().unwrap();
        let (met, skew_s) = (state.met.values().sum::<u64>(), self.shared.skew_s);
        format!("{:?}, {met} with faults {:?}, a clock that is {skew_s} s ahead", state.requests, state.met)
    }
}

impl Shared {
    /// One request a connection.
    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let Some((head, body)) = read_request(&mut client)? else { return Ok(()) };
        // What asks only is not held up by what is being stored.
        if !body.is_empty() {
            self.pace(body.len());
        }
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let lists = head.starts_with("GET ") && target.contains("list-type=2");
        self.state.lock().unwrap().requests.count(&head, lists);
        if self.expired.lock().unwrap().as_ref().is_some_and(|key| head.contains(&format!("Credential={key}/"))) {
            return answer(&mut client, "400 Bad Request", "ExpiredToken");
        }
        let fault = self.next(lists);
        match fault {
            Some(Fault::LostBefore | Fault::Outage) => return client.shutdown(Shutdown::Both),
            Some(Fault::InternalError) => return answer(&mut client, "500 Internal Server Error", "InternalError"),
            Some(Fault::SlowDown) => return answer(&mut client, "503 Slow Down", "SlowDown"),
            Some(Fault::Wait) => {
                let wait = self.state.lock().unwrap().random.random_range(50..800);
                std::thread::sleep(Duration::from_millis(wait));
            }
            Some(Fault::StaleList) => {
                let state = self.state.lock().unwrap();
                if let Some((_, old)) = state.listings.get(&target).filter(|(at, _)| at.elapsed() < STALE) {
                    return client.write_all(old);
                }
            }
            _ => {}
        }
        let mut upstream = TcpStream::connect(&self.upstream)?;
        upstream.write_all(head.as_bytes())?;
        if fault == Some(Fault::TornRequest) {
            upstream.write_all(&body[..body.len() / 2])?;
            upstream.shutdown(Shutdown::Both)?;
            return client.shutdown(Shutdown::Both);
        }
        upstream.write_all(&body)?;
        let mut response = Vec::new();
        upstream.read_to_end(&mut response)?;
        if self.skew_s != 0 {
            skew(&mut response, lists, SignedDuration::from_secs(self.skew_s));
        }
        if lists && response.starts_with(b"HTTP/1.1 200") {
            let mut state = self.state.lock().unwrap();
            // The oldest that still counts is the one to be given.
            let old = state.listings.get(&target).is_none_or(|(at, _)| at.elapsed() >= STALE);
            if old {
                state.listings.insert(target, (Instant::now(), response.clone()));
            }
        }
        match fault {
            Some(Fault::LostAfter) => {}
            Some(Fault::TornResponse) => client.write_all(&response[..response.len() / 2])?,
            _ => client.write_all(&response)?,
        }
        client.shutdown(Shutdown::Both)
    }

    fn next(&self, lists: bool) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        if self.calm.load(Ordering::SeqCst) {
            return None;
        }
        let fault = if state.outage_until > Instant::now() {
            Fault::Outage
        } else if state.random.random_bool(self.share / 20.0) {
            let outage = Duration::from_millis(state.random.random_range(OUTAGE_MS));
            state.outage_until = Instant::now() + outage;
            Fault::Outage
        } else if state.random.random_bool(self.share) {
            let fault = *FAULTS.choose(&mut state.random).unwrap();
            if fault == Fault::StaleList && !lists { Fault::Wait } else { fault }
        } else {
            return None;
        };
        *state.met.entry(fault).or_default() += 1;
        Some(fault)
    }

    /// Waits until `bytes` more have had their time.
    fn pace(&self, bytes: usize) {
        let Some(rate) = self.bytes_per_second else { return };
        let mut state = self.state.lock().unwrap();
        let takes = Duration::from_secs_f64(bytes as f64 / rate as f64);
        state.busy_until = state.busy_until.max(Instant::now()) + takes;
        let wait = state.busy_until.saturating_duration_since(Instant::now());
        drop(state);
        std::thread::sleep(wait);
    }
}

/// Lets a response tell times by another clock, each in as many bytes as before.
fn skew(response: &mut [u8], lists: bool, by: SignedDuration) {
    let end = response.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(response.len());
    let (head, body) = response.split_at_mut(end);
    each(head, b"\r\nLast-Modified: ", b'\r', |text| {
        let at = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()? + by;
        rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok()
    });
    if lists {
        each(body, b"<LastModified>", b'<', |text| {
            let digits = text.split_once('.').map_or(0, |(_, rest)| rest.len() - 1);
            let at: Timestamp = text.parse().ok()?;
            Some(format!("{:.digits$}", at + by))
        });
    }
}

/// Puts something else behind each `before`, up to `end`.
fn each(bytes: &mut [u8], before: &[u8], end: u8, other: impl Fn(&str) -> Option<String>) {
    let mut from = 0;
    while let Some(at) = bytes[from..].windows(before.len()).position(|here| here == before) {
        let start = from + at + before.len();
        let length = bytes[start..].iter().position(|byte| *byte == end).unwrap_or(0);
        let text = &mut bytes[start..start + length];
        let other = std::str::from_utf8(text).ok().and_then(&other).expect("a time");
        text.copy_from_slice(other.as_bytes());
        from = start;
    }
}

/// A request's head, which asks for the connection to be closed, and its body; none if the client went.
fn read_request(client: &mut TcpStream) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let mut piece = vec![0; 64 << 10];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        match client.read(&mut piece)? {
            0 => return Ok(None),
            n => bytes.extend_from_slice(&piece[..n]),
        }
    };
    let mut body = bytes.split_off(end + 4);
    let head = String::from_utf8(bytes[..end].to_vec()).map_err(io::Error::other)?;
    let is = |line: &str, name: &str| line.to_ascii_lowercase().starts_with(name);
    let length = head.lines().find(|line| is(line, "content-length:")).and_then(|line| line.split(':').nth(1));
    let length: usize = length.map_or(Ok(0), |length| length.trim().parse()).map_err(io::Error::other)?;
    while body.len() < length {
        match client.read(&mut piece)? {
            0 => return Ok(None),
            n => body.extend_from_slice(&piece[..n]),
        }
    }
    let mut lines: Vec<&str> = head.lines().filter(|line| !is(line, "connection:")).collect();
    lines.push("Connection: close");
    Ok(Some((lines.join("\r\n") + "\r\n\r\n", body)))
}

fn answer(client: &mut TcpStream, status: &str, code: &str) -> io::Result<()> {
    let body =
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>a fault of the test</Message></Error>");
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    client.write_all((head + &body).as_bytes())?;
    client.shutdown(Shutdown::Write)
}
