//! How the demo speaks: coloured on a terminal, plain otherwise.

use std::io::{IsTerminal, stdout};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

static BEGUN: OnceLock<Instant> = OnceLock::new();
static NUMBER: AtomicU32 = AtomicU32::new(1);

fn paint(code: &str, text: &str) -> String {
    let colour = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// A heading, with the time since the first one.
pub fn chapter(title: &str) {
    let seconds = BEGUN.get_or_init(Instant::now).elapsed().as_secs();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    println!("\n{} {}", paint("1;36", &format!("{number}. {title}")), paint("2", &format!("[{seconds} s]")));
}

/// Lines, indented.
pub fn say(text: &str) {
    text.lines().for_each(|line| println!("   {line}"));
}

/// A named figure.
pub fn fact(name: &str, value: &str) {
    println!("   {} {value}", paint("1", &format!("{name:<12}")));
}

/// The end.
pub fn verdict(good: bool, text: &str) {
    let (code, word) = if good { ("1;32", "EQUAL") } else { ("1;31", "NOT EQUAL") };
    println!("\n{} {text}\n", paint(code, word));
}
