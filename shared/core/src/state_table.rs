//! The form of every state table: a pure function from the stored row and an event to a decision.
//!
//! A store applies the decision by compare-and-swap: it replaces the row only if the row that was seen is still stored.

/// A pure table of states: all rules of one kind of row.
pub trait StateTable {
    /// What is stored.
    type Row: Clone + PartialEq + Send + Sync;
    /// What can happen to it.
    type Event: Sync;
    /// What a stored row means to the one who brought the event.
    type Effect: Send;
    /// Why an event changes nothing.
    type Rejection: Send;

    /// The decision on `event` where `seen` is stored; `None` if there is no row.
    fn decide(seen: Option<&Self::Row>, event: &Self::Event) -> DecisionOf<Self>;
}

/// The decision type of a state table.
pub type DecisionOf<T> =
    Decision<<T as StateTable>::Row, <T as StateTable>::Effect, <T as StateTable>::Rejection>;

/// A row to store, or the reason why nothing is stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision<Row, Effect, Rejection> {
    /// Store `row` if the row that was seen is still stored; `then` holds once it is stored.
    Write {
        /// The row to store.
        row: Box<Row>,
        /// What that means.
        then: Effect,
    },
    /// Store nothing.
    Leave(Rejection),
}
