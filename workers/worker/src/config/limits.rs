//! The limits of a worker: slots, lease, deadlines, sizes, and the checks that they fit together.

use std::time::Duration;

use clap::Args;
use toolfleet_config::settings::{self, ConfigError, Variables, milliseconds, number};

/// The longest time for which SQS hides a received message.
const MAX_VISIBILITY_TIMEOUT: Duration = Duration::from_hours(12);

/// The limits of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Calls of one tenant to one server at once. A quarter more is left to others.
    #[arg(
        long,
        env = "TOOLFLEET_SLOTS",
        hide_env_values = true,
        value_name = "COUNT",
        default_value = "64",
        value_parser = number(1_u32, 10_000)
    )]
    pub slots: u32,
    /// How long a claim, and a message's invisibility, hold without a heartbeat, in milliseconds.
    #[arg(
        long = "lease-ms",
        env = "TOOLFLEET_LEASE_MS",
        hide_env_values = true,
        value_name = "MS",
        default_value = "30000",
        value_parser = milliseconds(1_000, u64::MAX)
    )]
    pub lease: Duration,
    /// The allowed difference between two workers' clocks, in milliseconds.
    #[arg(
        long = "clock-skew-ms",
        env = "TOOLFLEET_CLOCK_SKEW_MS",
        hide_env_values = true,
        value_name = "MS",
        default_value = "2000",
        value_parser = milliseconds(0, 60_000)
    )]
    pub skew: Duration,
    /// The deadline of a call that names none, in milliseconds after it was sent.
    #[arg(
        long = "default-deadline-ms",
        env = "TOOLFLEET_DEFAULT_DEADLINE_MS",
        hide_env_values = true,
        value_name = "MS",
        default_value = "3600000",
        value_parser = milliseconds(1, 1_209_600_000)
    )]
    pub default_deadline: Duration,
    /// How long running calls may take after SIGTERM, in milliseconds.
    #[arg(
        long = "drain-ms",
        env = "TOOLFLEET_DRAIN_MS",
        hide_env_values = true,
        value_name = "MS",
        default_value = "100000",
        value_parser = milliseconds(0, 3_600_000)
    )]
    pub drain: Duration,
    /// The largest answer of a server, in bytes.
    #[arg(
        long,
        env = "TOOLFLEET_MAX_ANSWER_BYTES",
        hide_env_values = true,
        value_name = "BYTES",
        default_value = "16777216",
        value_parser = number(1_024_u64, 1_073_741_824)
    )]
    pub max_answer_bytes: u64,
    /// How long a call waits for a server that never answered, in milliseconds.
    #[arg(
        long = "unreachable-wait-ms",
        env = "TOOLFLEET_UNREACHABLE_WAIT_MS",
        hide_env_values = true,
        value_name = "MS",
        default_value = "120000",
        value_parser = milliseconds(0, 1_209_600_000)
    )]
    pub unreachable_wait: Duration,
    /// How many answers are stored for calls that ask with `cache`; 0 stores none.
    #[arg(
        long,
        env = "TOOLFLEET_CACHE_ENTRIES",
        hide_env_values = true,
        value_name = "COUNT",
        default_value = "1000",
        value_parser = number(0_usize, 1_000_000)
    )]
    pub cache_entries: usize,
    /// How many bytes the stored answers may take.
    #[arg(
        long,
        env = "TOOLFLEET_CACHE_BYTES",
        hide_env_values = true,
        value_name = "BYTES",
        default_value = "67108864",
        value_parser = number(0_u64, 1_099_511_627_776)
    )]
    pub cache_bytes: u64,
    /// About how many bytes the compiled schemas of tools take. The one unused for the longest time is dropped first.
    #[arg(
        long,
        env = "TOOLFLEET_SCHEMA_CACHE_BYTES",
        hide_env_values = true,
        value_name = "BYTES",
        default_value = "25165824",
        value_parser = number(1_048_576_u64, 1_073_741_824)
    )]
    pub schema_cache_bytes: u64,
    /// How long work may wait for a slot, in milliseconds: the fleet reports as many wanted slots as that needs.
    #[arg(
        long = "scale-wait-ms",
        env = "TOOLFLEET_SCALE_WAIT_MS",
        hide_env_values = true,
        value_name = "MS",
        default_value = "10000",
        value_parser = milliseconds(100, 86_400_000)
    )]
    pub scale_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            slots: 64,
            lease: Duration::from_secs(30),
            skew: Duration::from_secs(2),
            default_deadline: Duration::from_secs(3600),
            drain: Duration::from_secs(100),
            max_answer_bytes: 16 * 1024 * 1024,
            unreachable_wait: Duration::from_secs(120),
            cache_entries: 1_000,
            cache_bytes: 64 * 1024 * 1024,
            schema_cache_bytes: 24 * 1024 * 1024,
            scale_wait: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// Reads the limits through `variables`.
    ///
    /// # Errors
    /// The first variable that is wrong or does not fit the others.
    pub fn read(variables: Variables<'_>) -> Result<Self, ConfigError> {
        let limits: Self = settings::read(variables)?;
        limits.check()?;
        Ok(limits)
    }

    /// Checks that the limits fit together.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        // A heartbeat comes after a third of the lease and extends the time-out to a whole lease from then.
        let hidden = self.lease + self.heartbeat();
        if hidden > MAX_VISIBILITY_TIMEOUT {
            let text = format!(
                "is {}; a message would have to stay hidden for {} ms, a lease and the third of it before its first heartbeat, and \
                 SQS hides a message for at most 12 hours. Accepted is at most {}",
                self.lease.as_millis(),
                hidden.as_millis(),
                (MAX_VISIBILITY_TIMEOUT * 3 / 4).as_millis()
            );
            return Err(ConfigError::new("TOOLFLEET_LEASE_MS", text));
        }
        if self.skew >= self.lease {
            let text =
                "is not smaller than TOOLFLEET_LEASE_MS; an expired lease would never be taken over in time"
                    .to_owned();
            return Err(ConfigError::new("TOOLFLEET_CLOCK_SKEW_MS", text));
        }
        Ok(())
    }

    /// Slots beside those that one tenant can hold at one server. They are left to others of either, and as many again to all others.
    pub const fn reserve(&self) -> u32 {
        let eighth = self.slots / 8;
        if eighth == 0 { 1 } else { eighth }
    }

    /// How often a running call renews lease and visibility: three times within the lease.
    pub fn heartbeat(&self) -> Duration {
        self.lease / 3
    }

    /// The shortest time from a claim, or from one of its writes, to a write for progress alone. A quicker call costs no extra write.
    pub fn notes_pace(&self) -> Duration {
        (self.lease / 10).min(Duration::from_secs(3))
    }

    /// The lease in whole seconds, as a visibility timeout wants it; at least as long as the lease.
    pub fn visibility_s(&self) -> u32 {
        u32::try_from(self.lease.as_millis().div_ceil(1000)).unwrap_or(43_200).clamp(1, 43_200)
    }

    /// The lease in milliseconds.
    pub fn lease_ms(&self) -> u64 {
        u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX)
    }

    /// How long a call waits for a server that never answered, in milliseconds.
    pub fn unreachable_wait_ms(&self) -> u64 {
        u64::try_from(self.unreachable_wait.as_millis()).unwrap_or(u64::MAX)
    }

    /// The allowance for clock skew in milliseconds.
    pub fn skew_ms(&self) -> u64 {
        u64::try_from(self.skew.as_millis()).unwrap_or(u64::MAX)
    }

    /// The deadline of a call that names none, in milliseconds after it was sent.
    pub fn default_deadline_ms(&self) -> u64 {
        u64::try_from(self.default_deadline.as_millis()).unwrap_or(u64::MAX)
    }
}
