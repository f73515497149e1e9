//! Where the row of a limit's permits is stored.

use std::fmt::Debug;

use toolfleet_aws::Read;
use toolfleet_core::limits::holders::HolderTable;

/// A store of the permits of one limit: the fleet table, or a model of it.
pub(crate) trait PermitRows: Read<Table = HolderTable> + Debug + Send + Sync + 'static {}

impl<S: Read<Table = HolderTable> + Debug + Send + Sync + 'static> PermitRows for S {}
