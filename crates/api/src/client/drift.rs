//! Agents, what they normally do, and breakers.

use super::{Client, ClientError, path, with_query};
use crate::{
    AcceptRequest, AgentPage, AgentView, BreakerList, BreakerRequest, BreakerView, RebuildReport,
    RebuildRequest,
};
use reqwest::Method;
use std::time::Duration;

/// How long learning anew may take: an hour.
const PATIENCE: Duration = Duration::from_secs(3_600);

impl Client {
    /// A page of the agents that are known. `query` as in the API: `agent`, `cursor`, `limit`.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn agents(&self, query: &[(&str, String)]) -> Result<AgentPage, ClientError> {
        self.get(&with_query("/v1/agents", query)).await
    }

    /// What is known of an agent, with its last `hours` hours.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn agent(&self, agent: &str, hours: u16) -> Result<AgentView, ClientError> {
        self.get(&format!("/v1/agents/{}?hours={hours}", path(agent))).await
    }

    /// Takes what an agent did for normal.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn accept(&self, agent: &str, request: &AcceptRequest) -> Result<(), ClientError> {
        let to = format!("/v1/agents/{}/accept", path(agent));
        let (status, body) = self.exchange(Method::POST, &to, Some(request), None).await?;
        if status.is_success() { Ok(()) } else { Err(self.problem(status, &body)) }
    }

    /// Learns from the log anew.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn rebuild(&self, request: &RebuildRequest) -> Result<RebuildReport, ClientError> {
        self.send_patiently(Method::POST, "/v1/drift/rebuild", Some(request), PATIENCE).await
    }

    /// The breakers that are not closed.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn breakers(&self) -> Result<BreakerList, ClientError> {
        self.get("/v1/breakers").await
    }

    /// How the breaker of `scope` stands: `agent:NAME`, `group:NAME` or `all`.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn breaker(&self, scope: &str) -> Result<BreakerView, ClientError> {
        self.get(&format!("/v1/breakers/{}", path(scope))).await
    }

    /// Opens or closes it.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn set_breaker(&self, scope: &str, to: &BreakerRequest) -> Result<BreakerView, ClientError> {
        self.send(Method::PUT, &format!("/v1/breakers/{}", path(scope)), Some(to)).await
    }
}
