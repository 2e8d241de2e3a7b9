//! What of a status is worth writing at once. The rest waits: it changes all the time.

use std::time::Duration;

use crate::api::{BackupPolicyStatus, CopyStatus, VerificationStatus, WindowStatus};
use crate::controller::apply::Status;

impl Status for BackupPolicyStatus {
    const WRITE_INTERVAL: Duration = Duration::from_secs(30);

    fn material(&self) -> Self {
        let BackupPolicyStatus {
            conditions,
            observed_generation,
            first_recoverability_point,
            latest_restorable_time,
            windows,
            lag,
            last_full_time,
            last_schedule_time,
            next_schedule_time,
            last_drill_time,
            copies,
            verification,
        } = self.clone();
        let conditions = conditions.into_iter().map(|mut condition| {
            condition.message.clear();
            condition
        });
        let windows = windows.into_iter().map(|WindowStatus { from, to: _, base, gap }| WindowStatus {
            from,
            to: String::new(),
            base,
            gap,
        });
        BackupPolicyStatus {
            conditions: conditions.collect(),
            observed_generation,
            first_recoverability_point,
            latest_restorable_time: latest_restorable_time.map(|_| String::new()),
            windows: windows.collect(),
            lag: lag.map(|_| String::new()),
            last_full_time,
            last_schedule_time,
            next_schedule_time,
            last_drill_time,
            copies: copies
                .into_iter()
                .map(|copy| CopyStatus { as_of: copy.as_of.map(|_| String::new()), ..copy })
                .collect(),
            verification: verification.map(|verification| VerificationStatus { progress: None, ..verification }),
        }
    }
}
