//! What the user of `toolfleet top` has chosen: the pane, how far it is scrolled, and whether the screen is frozen.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// The panes, in their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Pane {
    #[default]
    Overview,
    Servers,
    Limits,
    Tenants,
    Tools,
    Switches,
}

impl Pane {
    pub(super) const ALL: [Self; 6] =
        [Self::Overview, Self::Servers, Self::Limits, Self::Tenants, Self::Tools, Self::Switches];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Servers => "servers",
            Self::Limits => "limits",
            Self::Tenants => "tenants",
            Self::Tools => "tools",
            Self::Switches => "switches",
        }
    }

    /// The pane so many places further, from the last one to the first.
    fn moved(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|pane| *pane == self).unwrap_or(0);
        Self::ALL.iter().copied().cycle().nth(at.saturating_add(by)).unwrap_or_default()
    }
}

/// What the user has chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ui {
    pub(super) pane: Pane,
    /// The first line of the pane that is shown.
    pub(super) scroll: usize,
    /// Nothing is read again until it ends.
    pub(super) frozen: bool,
    /// Why the fleet could not be read last.
    pub(super) failure: Option<String>,
}

/// What a key asks of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Quit,
    Draw,
    Nothing,
}

impl Ui {
    /// Takes a key.
    pub(super) fn key(&mut self, key: KeyEvent) -> Wish {
        if key.kind == KeyEventKind::Release {
            return Wish::Nothing;
        }
        let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        // Any other key does nothing; keys are an open set.
        if key.code == KeyCode::Char('q') || (ctrl && key.code == KeyCode::Char('c')) {
            return Wish::Quit;
        }
        if key.code == KeyCode::Char('p') {
            self.frozen = !self.frozen;
        } else if key.code == KeyCode::Tab || key.code == KeyCode::Right {
            self.show(self.pane.moved(1));
        } else if key.code == KeyCode::BackTab || key.code == KeyCode::Left {
            self.show(self.pane.moved(Pane::ALL.len().saturating_sub(1)));
        } else if key.code == KeyCode::Down {
            self.scroll = self.scroll.saturating_add(1);
        } else if key.code == KeyCode::Up {
            self.scroll = self.scroll.saturating_sub(1);
        } else {
            return Wish::Nothing;
        }
        Wish::Draw
    }

    fn show(&mut self, pane: Pane) {
        (self.pane, self.scroll) = (pane, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(ui: &mut Ui, code: KeyCode) -> Wish {
        ui.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn keys_move_between_panes_scroll_and_freeze() {
        let mut ui = Ui::default();
        assert_eq!(press(&mut ui, KeyCode::Tab), Wish::Draw);
        assert_eq!(ui.pane, Pane::Servers);
        press(&mut ui, KeyCode::Down);
        press(&mut ui, KeyCode::Down);
        press(&mut ui, KeyCode::Up);
        assert_eq!(ui.scroll, 1);
        press(&mut ui, KeyCode::Left);
        press(&mut ui, KeyCode::BackTab);
        assert_eq!((ui.pane, ui.scroll), (Pane::Switches, 0));
        press(&mut ui, KeyCode::Right);
        assert_eq!(ui.pane, Pane::Overview);
        press(&mut ui, KeyCode::Up);
        assert_eq!(ui.scroll, 0);
        press(&mut ui, KeyCode::Char('p'));
        assert!(ui.frozen);
        assert_eq!(press(&mut ui, KeyCode::Char('x')), Wish::Nothing);
        assert_eq!(press(&mut ui, KeyCode::Char('c')), Wish::Nothing);
    }

    #[test]
    fn q_and_ctrl_c_quit_when_pressed_and_not_when_released() {
        let mut ui = Ui::default();
        assert_eq!(press(&mut ui, KeyCode::Char('q')), Wish::Quit);
        assert_eq!(ui.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Wish::Quit);
        let mut released = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE);
        released.kind = KeyEventKind::Release;
        assert_eq!(ui.key(released), Wish::Nothing);
    }
}
