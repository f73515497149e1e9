//! Dead letters: list them, and move them back to the calls.
//!
//! A message is received to be read, which hides it for a short time. A [`Look`] makes all that it has hidden visible again when it is
//! released; what it does not release is visible again after half a minute.

mod letter;
mod letters;
mod look;
mod origin;
mod redrive;

pub use letter::{DeadLetter, LetterFilter, RECEIVED_TOO_OFTEN};
pub use letters::{DeadLetters, Judged};
pub use look::{Look, Stop};
pub use origin::RedriveRules;
pub use redrive::{Redrive, RedriveError, RedriveReport, Redriven, RedrivenAs};
