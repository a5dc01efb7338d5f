//! Who asks, as the host application tells it (`IRequestActor`); handed on to hooks and logs, never trusted for access.

use std::net::IpAddr;

/// The person or machine behind a request, as the embedding application knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Actor {
    /// User id of the application, or of the token when the application gives none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Id of the token in the application's own terms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// Address of the client, as text: hosts give whatever their proxy told them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// The client's `User-Agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// Organisation that quota and audit hooks account to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org_id: Option<String>,
    /// Session of the application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
}

impl Actor {
    /// The client's address when it is a well-formed one.
    pub fn ip_addr(&self) -> Option<IpAddr> {
        self.ip.as_deref()?.trim().parse().ok()
    }
}
