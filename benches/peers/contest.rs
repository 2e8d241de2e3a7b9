//! Contenders in turn, medians, ratios, goals.

use std::time::Duration;

use crate::measure::Sample;

/// One of those compared.
pub struct Contender<'a> {
    /// With its version.
    name: String,
    /// Sets the stage, untimed.
    reset: Box<dyn FnMut() + 'a>,
    run: Box<dyn FnMut() -> Sample + 'a>,
    samples: Vec<Sample>,
}

/// What must hold: `ours` at least `ratio` times as fast as the contender whose name starts with `peer`.
pub struct Goal {
    pub ours: &'static str,
    pub peer: &'static str,
    pub ratio: f64,
}

/// A comparison over one task.
pub struct Contest<'a> {
    title: String,
    bytes: u64,
    contenders: Vec<Contender<'a>>,
    notes: Vec<String>,
    /// Whose peak memory has which bound.
    memory: Option<(&'static str, u64)>,
    /// Who may take which part of one core.
    cores: Option<(&'static str, f64)>,
}

impl<'a> Contest<'a> {
    /// A task over `bytes` of data (for the MiB/s column).
    pub fn new(title: impl Into<String>, bytes: u64) -> Contest<'a> {
        Contest { title: title.into(), bytes, contenders: Vec::new(), notes: Vec::new(), memory: None, cores: None }
    }

    pub fn contender(
        &mut self,
        name: impl Into<String>,
        reset: impl FnMut() + 'a,
        run: impl FnMut() -> Sample + 'a,
    ) -> &mut Self {
        let (reset, run) = (Box::new(reset), Box::new(run));
        self.contenders.push(Contender { name: name.into(), reset, run, samples: Vec::new() });
        self
    }

    /// A contender that is not here.
    pub fn skipped(&mut self, name: &str, why: &str) -> &mut Self {
        self.notes.push(format!("SKIPPED: {name}: {why}"));
        self
    }

    /// Contenders whose name starts with `ours` may have at most `bytes` of resident memory.
    pub fn bounded(&mut self, ours: &'static str, bytes: u64) {
        self.memory = Some((ours, bytes));
    }

    /// Contenders whose name starts with `ours` may take at most `cores` of CPU while they run.
    pub fn light(&mut self, ours: &'static str, cores: f64) {
        self.cores = Some((ours, cores));
    }

    /// Runs all in turn and prints the table; returns the goals that were missed.
    pub fn run(mut self, goals: &[Goal]) -> Vec<String> {
        let rounds = rounds();
        println!("\n{} ({} MiB, median of {rounds} interleaved rounds)", self.title, self.bytes >> 20);
        for round in 0..rounds {
            for contender in &mut self.contenders {
                eprintln!("  round {} of {rounds}: {}", round + 1, contender.name);
                (contender.reset)();
                let sample = (contender.run)();
                contender.samples.push(sample);
            }
        }
        self.print();
        goals.iter().filter_map(|goal| self.judge(goal)).chain(self.too_large()).chain(self.too_busy()).collect()
    }

    fn too_busy(&self) -> Vec<String> {
        let Some((ours, limit)) = self.cores else { return Vec::new() };
        let mut missed = Vec::new();
        for contender in self.contenders.iter().filter(|c| c.name.starts_with(ours)) {
            let cpu = median(contender.samples.iter().map(|s| s.cpu));
            let cores = cpu.as_secs_f64() / contender.wall().as_secs_f64();
            let text = format!("{}: {:.1} % of a core (goal: {:.0} %)", contender.name, 100.0 * cores, 100.0 * limit);
            println!("  {} {text}", if cores <= limit { "met:" } else { "missed:" });
            missed.extend((cores > limit).then_some(text));
        }
        missed
    }

    fn too_large(&self) -> Vec<String> {
        let Some((ours, limit)) = self.memory else { return Vec::new() };
        let mut missed = Vec::new();
        for contender in self.contenders.iter().filter(|c| c.name.starts_with(ours)) {
            let rss = contender.samples.iter().map(|s| s.peak_rss_bytes).max().unwrap_or_default();
            let text = format!("{}: peak RSS {} MiB (goal: {} MiB)", contender.name, rss >> 20, limit >> 20);
            println!("  {} {text}", if rss <= limit { "met:" } else { "missed:" });
            missed.extend((rss > limit).then_some(text));
        }
        missed
    }

    fn print(&self) {
        println!(
            "  {:<34} {:>9} {:>17} {:>8} {:>9} {:>9} {:>7}",
            "", "wall", "(min–max)", "MiB/s", "CPU", "peak RSS", "ratio"
        );
        for contender in &self.contenders {
            let wall = contender.wall();
            let walls = contender.samples.iter().map(|s| s.wall);
            let range = format!(
                "({:.2}–{:.2} s)",
                walls.clone().min().unwrap_or_default().as_secs_f64(),
                walls.max().unwrap_or_default().as_secs_f64()
            );
            println!(
                "  {:<34} {:>7.2} s {:>17} {:>8.0} {:>7.2} s {:>5} MiB {:>6.2}×",
                contender.name,
                wall.as_secs_f64(),
                range,
                self.bytes as f64 / f64::from(1 << 20) / wall.as_secs_f64(),
                median(contender.samples.iter().map(|s| s.cpu)).as_secs_f64(),
                contender.samples.iter().map(|s| s.peak_rss_bytes).max().unwrap_or_default() >> 20,
                self.contenders[0].wall().as_secs_f64() / wall.as_secs_f64(),
            );
        }
        for note in &self.notes {
            println!("  {note}");
        }
    }

    /// Prints how a goal fared; a goal whose peer is absent is neither met nor missed.
    fn judge(&self, goal: &Goal) -> Option<String> {
        let wall = |name: &str| self.contenders.iter().find(|c| c.name.starts_with(name)).map(Contender::wall);
        let (ours, peer) = (wall(goal.ours)?, wall(goal.peer)?);
        let ratio = peer.as_secs_f64() / ours.as_secs_f64();
        let text = format!("{}: {} is {ratio:.2}× {} (goal: {}×)", self.title, goal.ours, goal.peer, goal.ratio);
        println!("  {} {text}", if ratio >= goal.ratio { "met:" } else { "missed:" });
        (ratio < goal.ratio).then_some(text)
    }
}

impl Contender<'_> {
    fn wall(&self) -> Duration {
        median(self.samples.iter().map(|sample| sample.wall))
    }
}

/// The middle one (the lower of two).
pub fn median(values: impl Iterator<Item = Duration>) -> Duration {
    let mut values: Vec<Duration> = values.collect();
    values.sort();
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

fn rounds() -> usize {
    std::env::var("TIDEMARK_BENCH_ROUNDS")
        .map_or(5, |rounds| rounds.parse().expect("TIDEMARK_BENCH_ROUNDS is a number"))
}
