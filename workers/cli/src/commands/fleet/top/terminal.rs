//! The terminal of `toolfleet top`: it is put into its own mode and back, also after a panic; keys are read by a thread.

use std::io;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{Event, KeyEvent, poll, read};
use ratatui::style::{Color, Modifier, Style};
use tokio::sync::mpsc;

use super::super::lines::{Line, Tone};
use super::frame::Size;

/// How long the thread waits for a key before it looks whether anybody still wants one.
const POLL: Duration = Duration::from_millis(200);

/// The terminal in its own mode; dropped, it is as before. A panic restores it too, by the hook that `ratatui` sets.
pub(super) struct Screen(DefaultTerminal);

impl Screen {
    pub(super) fn open() -> io::Result<Self> {
        ratatui::try_init().map(Self)
    }

    /// Draws the lines that `frame` gives for the terminal's size.
    pub(super) fn draw(&mut self, frame: impl FnOnce(Size) -> Vec<Line>) -> io::Result<()> {
        self.0.draw(|target| fill(target.buffer_mut(), frame)).map(|_drawn| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Writes the lines into a buffer of the terminal's size.
pub(super) fn fill(buffer: &mut Buffer, frame: impl FnOnce(Size) -> Vec<Line>) {
    let area = *buffer.area();
    let lines = frame(Size { width: area.width.into(), height: area.height.into() });
    for (row, line) in (area.top()..area.bottom()).zip(lines) {
        buffer.set_stringn(area.left(), row, &line.text, area.width.into(), style(line.tone));
    }
}

fn style(tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Heading => Style::new().add_modifier(Modifier::BOLD),
        Tone::Notice => Style::new().fg(Color::Yellow),
        Tone::Alarm => Style::new().fg(Color::Red),
        Tone::Faint => Style::new().add_modifier(Modifier::DIM),
    }
}

/// The size of the terminal on stdout.
pub(super) fn size() -> Option<Size> {
    let (width, height) = ratatui::crossterm::terminal::size().ok()?;
    Some(Size { width: width.into(), height: height.into() })
}

/// The keys that are pressed; none for another event, such as a new size. It ends when the terminal can no longer be read.
pub(super) fn keys() -> mpsc::Receiver<Option<KeyEvent>> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            let event = match poll(POLL) {
                Ok(false) => continue,
                Ok(true) => read(),
                Err(_) => return,
            };
            let key = match event {
                Ok(Event::Key(key)) => Some(key),
                Ok(
                    Event::FocusGained
                    | Event::FocusLost
                    | Event::Mouse(_)
                    | Event::Paste(_)
                    | Event::Resize(..),
                ) => None,
                Err(_) => return,
            };
            if sender.blocking_send(key).is_err() {
                return;
            }
        }
    });
    receiver
}
