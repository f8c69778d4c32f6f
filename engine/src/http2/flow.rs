//! Flow control (RFC 9113 §5.2): how much either side may send before the other says that it has room.

use super::frame::STREAM_ID_MAX;

/// What a client may still send.
#[derive(Debug)]
pub(crate) struct ReceiveWindow {
    size: u32,
    left: u32,
    /// What has been dealt with and not been given back yet.
    owed: u32,
}

impl ReceiveWindow {
    pub(crate) fn new(size: u32) -> ReceiveWindow {
        ReceiveWindow { size, left: size, owed: 0 }
    }

    /// Notes that so many bytes have arrived; false if they were too many.
    pub(crate) fn take(&mut self, len: usize) -> bool {
        let left = u32::try_from(len).ok().and_then(|len| self.left.checked_sub(len));
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }

    /// Gives room back for bytes that have been dealt with: in bulk, so that the client hears of it
    /// twice per window.
    pub(crate) fn give_back(&mut self, len: usize) -> Option<u32> {
        self.owed += u32::try_from(len).expect("no more than was taken");
        assert!(self.owed <= self.size - self.left, "no more is given back than was taken");
        if self.owed < self.size / 2 {
            return None;
        }
        self.left += self.owed;
        Some(std::mem::take(&mut self.owed))
    }
}

/// What we may still send. Below zero when the client has made its windows smaller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendWindow(i64);

impl SendWindow {
    /// What every connection begins with, and every stream until SETTINGS say otherwise.
    pub(crate) const DEFAULT: SendWindow = SendWindow(65_535);

    pub(crate) fn new(size: u32) -> SendWindow {
        SendWindow(i64::from(size))
    }

    pub(crate) fn available(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    pub(crate) fn take(&mut self, len: usize) {
        assert!(len <= self.available(), "nothing is sent without room");
        self.0 -= len as i64;
    }

    /// Changes the window; false if it would be larger than any may be.
    pub(crate) fn change(&mut self, by: i64) -> bool {
        self.0 += by;
        self.0 <= i64::from(STREAM_ID_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back_in_bulk() {
        let mut window = ReceiveWindow::new(100);
        assert!(window.take(60));
        assert_eq!(window.give_back(30), None);
        assert!(!window.take(41), "there is room for forty");
        assert_eq!(window.give_back(30), Some(60));
        assert!(window.take(100));
        assert!(!window.take(1));
    }

    #[test]
    fn windows_may_fall_below_zero_and_have_a_largest_size() {
        let mut window = SendWindow::new(10);
        assert!(window.change(-20));
        assert_eq!(window.available(), 0);
        assert!(window.change(15));
        assert_eq!(window.available(), 5);
        assert!(!window.change(i64::from(STREAM_ID_MAX)));
    }
}
