//! The uploads in parts that are under way.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::store::About;

/// The uploads under way, by their ids.
#[derive(Debug, Default)]
pub(super) struct Uploads(pub(super) BTreeMap<String, Upload>);

#[derive(Debug)]
pub(super) struct Upload {
    pub(super) about: About,
    pub(super) parts: BTreeMap<u32, (String, Bytes)>,
}
