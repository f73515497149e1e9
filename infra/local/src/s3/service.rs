//! The state of the S3 endpoint: its objects and its unfinished uploads.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use bytes::Bytes;

use super::store::{About, Store};
use crate::clock::Clock;

/// The objects, shared by all requests.
#[derive(Debug)]
pub(crate) struct S3Service {
    store: Mutex<Store>,
    uploads: Mutex<Uploads>,
    expiry: Mutex<BTreeMap<String, u64>>,
    pub(super) clock: Clock,
}

/// Unfinished uploads by their ids.
#[derive(Debug, Default)]
pub(super) struct Uploads(pub(super) BTreeMap<String, Upload>);

/// One upload: the description of its object, and by number each part with its ETag.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) about: About,
    pub(super) parts: BTreeMap<u32, (String, Bytes)>,
}

impl S3Service {
    /// Opens the buckets kept in `directory`, or none that are kept nowhere.
    pub(crate) fn open(directory: Option<PathBuf>, clock: Clock) -> std::io::Result<Self> {
        let store = Mutex::new(Store::open(directory)?);
        Ok(Self { store, uploads: Mutex::default(), expiry: Mutex::default(), clock })
    }

    /// Creates a bucket unless it is there.
    pub(crate) fn create_bucket(&self, name: &str) -> std::io::Result<()> {
        self.store().create_bucket(name)
    }

    /// Says from now on that objects of that bucket end after so many days.
    pub(crate) fn expire_after(&self, bucket: &str, days: Option<u64>) {
        let mut expiry = self.expiry();
        match days {
            Some(days) => expiry.insert(bucket.to_owned(), days),
            None => expiry.remove(bucket),
        };
    }

    pub(super) fn expiry(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, u64>> {
        self.expiry.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn store(&self) -> std::sync::MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn uploads(&self) -> std::sync::MutexGuard<'_, Uploads> {
        self.uploads.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
