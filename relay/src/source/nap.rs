//! Pauses to the microsecond. The runtime's own timers count whole milliseconds and round up, so half of
//! one would last one to two: longer than everything else between a commit and its confirm.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use rustix::time::{timerfd_create, timerfd_settime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

/// A longer pause gains nothing from being exact.
const EXACT_MAX: Duration = Duration::from_millis(10);

/// A timer of the kernel's, that the runtime waits for as for a socket.
pub(super) struct Nap(AsyncFd<OwnedFd>);

impl Nap {
    /// # Errors
    /// The process has no file descriptor left.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            deprecated,
            reason = "an OwnedFd stays the same descriptor, and nobody takes it out"
        )]
        let timer = AsyncFd::with_interest(timer, Interest::READABLE)?;
        Ok(Self(timer))
    }

    /// Waits until `deadline`.
    ///
    /// Cancel safety: the next call sets the timer anew.
    pub(super) async fn until(&mut self, deadline: Instant) {
        let pause = deadline.saturating_duration_since(Instant::now());
        if pause.is_zero() {
            return;
        }
        if pause > EXACT_MAX || !self.set(pause) {
            return sleep_until(deadline).await;
        }
        while Instant::now() < deadline {
            match self.0.readable().await {
                // An expiry that nobody waited for is what was left of an earlier call.
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => return sleep_until(deadline).await,
            }
        }
    }

    fn set(&self, pause: Duration) -> bool {
        let value = Timespec { tv_sec: 0, tv_nsec: i64::from(pause.subsec_nanos()) };
        let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_nap_ends_not_before_its_time_also_behind_one_that_was_given_up() {
        let mut nap = Nap::new().expect("a descriptor");
        for micros in [1, 50, 300, 1_500] {
            // GIVEN a nap that was given up, and whose time came all the same
            let given_up = Instant::now() + Duration::from_micros(20);
            tokio::select! {
                biased;
                () = nap.until(given_up) => {}
                () = std::future::ready(()) => {}
            }
            while Instant::now() < given_up {}
            // The runtime hears of it.
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
            // WHEN / THEN
            let deadline = Instant::now() + Duration::from_micros(micros);
            nap.until(deadline).await;
            assert!(Instant::now() >= deadline);
        }
        nap.until(Instant::now()).await;
    }
}
