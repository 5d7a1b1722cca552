//! Guarded execution, snapshots and rollback.

use super::{Client, ClientError, path, with_query};
use crate::{
    ExecutionRequest, ExecutionView, RollbackRequest, RollbackView, SnapshotPage, SnapshotRequest,
    SnapshotView,
};
use reqwest::Method;
use std::time::Duration;

/// How long an answer may take that a target has to work for: a little more than its limits allow by default.
const PATIENCE: Duration = Duration::from_secs(660);

/// A snapshot that is being exported.
pub struct SnapshotExport {
    client: Client,
    response: reqwest::Response,
}

impl SnapshotExport {
    /// The next bytes: JSON objects, a line each, cut anywhere. None at the end.
    ///
    /// # Errors
    /// When the answer breaks off: then it is not whole.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        let chunk = self.response.chunk().await.map_err(|e| self.client.unreachable(&e))?;
        Ok(chunk.map(|bytes| bytes.to_vec()))
    }
}

impl Client {
    /// Runs statements on a target, guarded.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn execute(&self, request: &ExecutionRequest) -> Result<ExecutionView, ClientError> {
        self.send_patiently(Method::POST, "/v1/executions", Some(request), PATIENCE).await
    }

    /// Takes a snapshot.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn take_snapshot(&self, request: &SnapshotRequest) -> Result<SnapshotView, ClientError> {
        self.send_patiently(Method::POST, "/v1/snapshots", Some(request), PATIENCE).await
    }

    /// A page of snapshots. `query` as in the API: `agent`, `target`, `state`, `cursor`, `limit`.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn snapshots(&self, query: &[(&str, String)]) -> Result<SnapshotPage, ClientError> {
        self.get(&with_query("/v1/snapshots", query)).await
    }

    /// A snapshot, and how far its rollback is.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn snapshot(&self, id: &str) -> Result<SnapshotView, ClientError> {
        self.get(&format!("/v1/snapshots/{}", path(id))).await
    }

    /// Adds after-images to a snapshot.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn seal_snapshot(&self, id: &str) -> Result<SnapshotView, ClientError> {
        let address = format!("/v1/snapshots/{}/seal", path(id));
        self.send_patiently(Method::POST, &address, None::<&()>, PATIENCE).await
    }

    /// Gives the records of a snapshot back their old content.
    ///
    /// # Errors
    /// [`ClientError`]; for conflicts a problem that holds them.
    pub async fn rollback(&self, id: &str, request: &RollbackRequest) -> Result<RollbackView, ClientError> {
        let address = format!("/v1/snapshots/{}/rollback", path(id));
        self.send_patiently(Method::POST, &address, Some(request), PATIENCE).await
    }

    /// Everything that a snapshot holds.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn export_snapshot(&self, id: &str) -> Result<SnapshotExport, ClientError> {
        let address = format!("{}/v1/snapshots/{}/export", self.base, path(id));
        let request = self.http.get(address).bearer_auth(&self.key).timeout(PATIENCE);
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        let status = response.status();
        if status.is_success() {
            return Ok(SnapshotExport { client: self.clone(), response });
        }
        let body = response.bytes().await.map_err(|e| self.unreachable(&e))?;
        Err(self.problem(status, &body))
    }
}
