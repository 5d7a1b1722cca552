//! The names of OpenTelemetry's conventions that are sent, pinned here: those of GenAI are in development and may
//! still change, ours (`checkrein.…`) stay.

/// Of the conventions for GenAI, as of version 1.38.
pub(super) const OPERATION: &str = "gen_ai.operation.name";
pub(super) const EXECUTE_TOOL: &str = "execute_tool";
pub(super) const TOOL: &str = "gen_ai.tool.name";
pub(super) const AGENT: &str = "gen_ai.agent.name";
pub(super) const CONVERSATION: &str = "gen_ai.conversation.id";

/// General.
pub(super) const SERVICE_NAME: &str = "service.name";
pub(super) const SERVICE_VERSION: &str = "service.version";
pub(super) const ENVIRONMENT: &str = "deployment.environment.name";
pub(super) const ERROR_TYPE: &str = "error.type";

/// Ours.
pub(super) const SCOPE: &str = "checkrein";
pub(super) const PREFIX: &str = "checkrein.";
pub(super) const SIGNAL: &str = "checkrein.signal.";
pub(super) const CHECKS: &str = "checkrein.checks";
pub(super) const OUTCOMES: &str = "checkrein.outcomes";
pub(super) const BLOCKED: &str = "checkrein.blocked";
