//! Approvals and grants.

use super::{Client, ClientError, path, with_query};
use crate::{
    ApprovalDecision, ApprovalPage, ApprovalView, CheckView, GrantPage, GrantView, LinkView, NewComment,
    NewGrant, NewLink, SampleView,
};
use reqwest::Method;

impl Client {
    /// Takes a held check back, so that nobody need answer it any more.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn withdraw(&self, check_id: &str) -> Result<CheckView, ClientError> {
        self.send(Method::POST, &format!("/v1/checks/{}/withdraw", path(check_id)), None::<&()>).await
    }

    /// A page of approvals. `query` as in the API: `state`, `agent`, `cursor`, `limit`.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn approvals(&self, query: &[(&str, String)]) -> Result<ApprovalPage, ClientError> {
        self.get(&with_query("/v1/approvals", query)).await
    }

    /// An approval.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn approval(&self, id: &str) -> Result<ApprovalView, ClientError> {
        self.get(&format!("/v1/approvals/{}", path(id))).await
    }

    /// Some of the records that its action would touch.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn sample(&self, id: &str) -> Result<SampleView, ClientError> {
        self.get(&format!("/v1/approvals/{}/sample", path(id))).await
    }

    /// Answers an approval.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn decide(&self, id: &str, decision: &ApprovalDecision) -> Result<ApprovalView, ClientError> {
        self.send(Method::POST, &format!("/v1/approvals/{}/decision", path(id)), Some(decision)).await
    }

    /// Says something about an approval without answering it.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn comment(&self, id: &str, text: &str) -> Result<ApprovalView, ClientError> {
        let comment = NewComment { text: text.to_owned() };
        self.send(Method::POST, &format!("/v1/approvals/{}/comments", path(id)), Some(&comment)).await
    }

    /// Makes a link by which one person can answer an approval.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn link(&self, id: &str, link: &NewLink) -> Result<LinkView, ClientError> {
        self.send(Method::POST, &format!("/v1/approvals/{}/links", path(id)), Some(link)).await
    }

    /// A page of grants. `query` as in the API: `agent`, `open`, `cursor`, `limit`.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn grants(&self, query: &[(&str, String)]) -> Result<GrantPage, ClientError> {
        self.get(&with_query("/v1/grants", query)).await
    }

    /// Says yes beforehand, for a while.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn give_grant(&self, grant: &NewGrant) -> Result<GrantView, ClientError> {
        self.send(Method::POST, "/v1/grants", Some(grant)).await
    }

    /// Takes a grant back.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn revoke_grant(&self, id: &str) -> Result<GrantView, ClientError> {
        self.send(Method::DELETE, &format!("/v1/grants/{}", path(id)), None::<&()>).await
    }
}
