//! The DynamoDB endpoint: dynoxide in this process, with the tables of the template.
//!
//! **Invariant:** an existing table is never changed. If its keys differ from the template, the endpoint does not start.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dynoxide::{Database, DynoxideError};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::error::LocalError;
use crate::template::spec::TableSpec;

/// The path in error messages of a database that has no file.
pub(crate) const IN_MEMORY: &str = ":memory:";

/// How often rows past their time to live are deleted. DynamoDB itself takes up to some days.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Opens the database in a file, or in memory. Only a database in memory can use a manual clock.
pub(crate) fn open(file: Option<&Path>, clock: &Clock) -> Result<Database, LocalError> {
    match file {
        Some(path) => {
            let failed =
                |problem: DynoxideError| LocalError::Database { path: path.to_owned(), source: problem };
            let database = Database::new(&path.to_string_lossy()).map_err(failed)?;
            // This sets SQLite's synchronous=NORMAL: with the write-ahead log a commit then survives kill -9 without an fsync
            // for every item, which would be ten times slower.
            database.disable_bulk_loading().map_err(failed)?;
            Ok(database)
        }
        None => {
            let failed = |problem| LocalError::Database { path: IN_MEMORY.into(), source: problem };
            Database::memory_with_clock(Arc::new(DatabaseClock(clock.clone()))).map_err(failed)
        }
    }
}

struct DatabaseClock(Clock);

impl dynoxide::storage_backend::Clock for DatabaseClock {
    fn now_unix_secs(&self) -> u64 {
        self.0.now_ms() / 1000
    }

    fn now_unix_secs_f64(&self) -> f64 {
        Duration::from_millis(self.0.now_ms()).as_secs_f64()
    }
}

/// Creates the tables that are not there yet.
pub(crate) fn create_tables(database: &Database, tables: &[TableSpec]) -> Result<(), LocalError> {
    for table in tables {
        let failed = |problem: String| LocalError::Table { table: table.name.clone(), problem };
        match existing(database, &table.name).map_err(|error| failed(error.to_string()))? {
            Some(existing) => check_same(table, &existing).map_err(failed)?,
            None => create(database, table).map_err(failed)?,
        }
    }
    Ok(())
}

fn existing(database: &Database, name: &str) -> Result<Option<Value>, DynoxideError> {
    let request = json!({ "TableName": name });
    let request = serde_json::from_value(request).map_err(|error| internal(&error))?;
    let names = database.list_tables(Default::default())?.table_names;
    if !names.iter().any(|existing| existing == name) {
        return Ok(None);
    }
    let described = database.describe_table(request)?;
    serde_json::to_value(described.table).map(Some).map_err(|error| internal(&error))
}

fn internal(error: &serde_json::Error) -> DynoxideError {
    DynoxideError::InternalServerError(error.to_string())
}

fn check_same(table: &TableSpec, existing: &Value) -> Result<(), String> {
    let wanted = &table.create;
    let same_keys = wanted.get("KeySchema") == existing.get("KeySchema");
    if same_keys && index_names(wanted) == index_names(existing) {
        return Ok(());
    }
    Err("it exists with other keys or indexes than the template gives it; start with another data directory"
        .to_owned())
}

fn index_names(table: &Value) -> Vec<&str> {
    let indexes = table.get("GlobalSecondaryIndexes").and_then(Value::as_array);
    let names = indexes.into_iter().flatten().filter_map(|index| index.get("IndexName")?.as_str());
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names
}

fn create(database: &Database, table: &TableSpec) -> Result<(), String> {
    let request = serde_json::from_value(table.create.clone()).map_err(|error| error.to_string())?;
    database.create_table(request).map_err(|error| error.to_string())?;
    if let Some(attribute) = &table.ttl_attribute {
        let specification = json!({ "AttributeName": attribute, "Enabled": true });
        let request = json!({ "TableName": table.name, "TimeToLiveSpecification": specification });
        let request = serde_json::from_value(request).map_err(|error| error.to_string())?;
        database.update_time_to_live(request).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Serves until `stopping`, and deletes expired rows meanwhile.
pub(crate) async fn serve(listener: std::net::TcpListener, database: Database, stopping: CancellationToken) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the DynamoDB endpoint could not listen"),
    };
    let served =
        dynoxide::server::serve_with_shutdown(listener, database.clone(), stopping.cancelled_owned());
    tokio::select! {
        result = served => {
            if let Err(problem) = result {
                tracing::error!(%problem, "the DynamoDB endpoint ended");
            }
        }
        () = sweep(&database) => {}
    }
}

async fn sweep(database: &Database) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        if let Err(error) = database.sweep_ttl() {
            tracing::warn!(%error, "expired rows could not be deleted");
        }
    }
}
