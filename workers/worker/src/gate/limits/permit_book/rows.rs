//! Where the row of a limit's permits is stored.

use std::fmt::Debug;

use toolfleet_aws::fleet::limits::{Exchanged, Permits};
use toolfleet_aws::{AwsError, Read};
use toolfleet_core::limits::exchange::Exchange;
use toolfleet_core::limits::holders::HolderTable;

/// A store of the permits of one limit: the fleet table, or a model of it.
pub(crate) trait PermitRows: Read<Table = HolderTable> + Debug + Send + Sync + 'static {
    /// Exchanges entries, whatever else the row holds.
    fn exchange(&self, exchange: &Exchange) -> impl Future<Output = Result<Exchanged, AwsError>> + Send;
}

impl PermitRows for Permits {
    async fn exchange(&self, exchange: &Exchange) -> Result<Exchanged, AwsError> {
        Permits::exchange(self, exchange).await
    }
}
