use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// Bytes per second over all that is read at a time; clones of the `Arc` around it share it.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: Option<u64>,
    /// When the bytes that were let through so far are paid for.
    free_at: Mutex<Instant>,
}

impl Pace {
    /// None: as fast as it goes.
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, free_at: Mutex::new(Instant::now()) }
    }

    /// Waits until `bytes` may have been read.
    pub async fn take(&self, bytes: usize) {
        let Some(rate) = self.bytes_per_second else { return };
        let paid_at = {
            let mut free_at = self.free_at.lock().await;
            let cost = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
            *free_at = (*free_at).max(Instant::now()) + cost;
            *free_at
        };
        tokio::time::sleep_until(paid_at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_pass_no_faster_than_the_rate_whatever_their_pieces_and_whoever_takes_them() {
        let pace = Pace::new(Some(20_000));
        let began = Instant::now();
        futures::future::join_all([800, 1, 1199, 2000].map(|bytes| pace.take(bytes))).await;
        assert!(began.elapsed() >= Duration::from_millis(199), "{:?}", began.elapsed());
        // What was not used is not saved up.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let began = Instant::now();
        pace.take(2000).await;
        assert!(began.elapsed() >= Duration::from_millis(99), "{:?}", began.elapsed());
        Pace::new(None).take(usize::MAX).await;
    }
}
