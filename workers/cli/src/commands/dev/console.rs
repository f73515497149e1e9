//! The console of `toolfleet dev`: on 127.0.0.1, with a token of this process. The address that `dev` prints logs in by itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use toolfleet_client::{Client, system_clock};
use toolfleet_console::{Access, Bounds, Console, Hosts, Parts, SessionKey, Tokens, serve};

use crate::commands::console::{login_address, new_token};
use crate::exit::CommandError;

/// How long a login lasts; it ends with the process in any case.
const SESSION: Duration = Duration::from_secs(7 * 24 * 3_600);

/// A running console.
pub(super) struct DevConsole {
    url: String,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl DevConsole {
    /// Starts it on a listener that is bound already.
    pub(super) fn start(listener: TcpListener, client: Client) -> Result<Self, CommandError> {
        let address = listener.local_addr().map_err(|error| CommandError::Unavailable(error.into()))?;
        let token = new_token();
        let access = Access {
            tokens: Tokens::only("dev", &token),
            oidc: None,
            key: SessionKey::random().map_err(|error| CommandError::Unavailable(error.into()))?,
            session: SESSION,
            by_link: true,
            secure: false,
        };
        let hosts = Hosts { settings: "TOOLFLEET_CONSOLE", loopback: true, ..Hosts::default() };
        let parts = Parts { client, access, hosts, port: address.port(), now: system_clock() };
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let serving = tokio::spawn(async move {
            serve(Arc::new(Console::new(parts)), listener, Bounds::of_one_machine(), stopped).await;
        });
        Ok(Self { url: login_address(address, &token), stop, serving })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Stops it.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        // A browser keeps its connection open; nobody waits for a page any more.
        self.serving.abort();
        let _ended = self.serving.await;
    }
}
