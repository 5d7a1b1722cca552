//! Signals, sinks and silences.

use super::{Client, ClientError, path, with_query};
use crate::{
    NewSilence, SignalPage, SignalReplay, SignalReplayed, SilenceList, SilenceView, SinkList, SinkReport,
};
use reqwest::Method;

impl Client {
    /// A page of signals. `query` as in the API: `status`, `sink`, `kind`, `severity`, `agent`, `cursor`, `limit`.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn signals(&self, query: &[(&str, String)]) -> Result<SignalPage, ClientError> {
        self.get(&with_query("/v1/signals", query)).await
    }

    /// Sends a signal again.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn replay_signal(
        &self,
        id: &str,
        request: &SignalReplay,
    ) -> Result<SignalReplayed, ClientError> {
        self.send(Method::POST, &format!("/v1/signals/{}/replay", path(id)), Some(request)).await
    }

    /// The sinks, and how they are.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn sinks(&self) -> Result<SinkList, ClientError> {
        self.get("/v1/sinks").await
    }

    /// Sends an example of each kind to a sink.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn test_sink(&self, name: &str) -> Result<SinkReport, ClientError> {
        self.send(Method::POST, &format!("/v1/sinks/{}/test", path(name)), None::<&()>).await
    }

    /// The silences that are not over.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn silences(&self) -> Result<SilenceList, ClientError> {
        self.get("/v1/silences").await
    }

    /// Keeps signals back for a time.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn create_silence(&self, new: &NewSilence) -> Result<SilenceView, ClientError> {
        self.send(Method::POST, "/v1/silences", Some(new)).await
    }

    /// Ends a silence before its time.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn end_silence(&self, id: &str) -> Result<(), ClientError> {
        self.nothing(Method::DELETE, &format!("/v1/silences/{}", path(id))).await
    }
}
